// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * driven_vm - a small VMM and its guest, which do what a line says
 *
 * usage: driven_vm < LINES
 *
 * One operation a line, one reply a line (README.md). It does the whole of its input, in a process of its own, and then
 * looks what is left of that process in the host's memory. It judges nothing.
 *
 * The guest has a page of code of this program, and sees one "arena" of the VMM's memory by memory slots that lines
 * make. It is a few instructions in 32-bit mode without paging: the VMM sets the registers that say what to do, so they
 * must not be private. A page that is filled has one word all over it, its mark. Needs /dev/kvm.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

#define PAGE 4096u
#define CODE 0x1000u		/* of the guest's memory, which has RAM_PAGES beside the arena */
#define RAM_PAGES 4u
#define ARENA_PAGES 64u
#define ARENA ((void *)0x10000000000)	/* far below what mmap() picks: nothing else comes into holes of it */
#define WINDOW 0x100000u	/* where a second VM sees the arena */
#define MARK 0x5ea00000u	/* what a page's word begins with, and a number */
#define NUMBER 0xfffffu
#define DONE_PORT 0xe1
#define DEADLINE_S 60
#define HOLDERS 4u		/* buffers at a time */
#define SHARED_MOST 256u	/* ranges that KVM's book may have */
#define FRAMES 512u		/* of which is known what becomes of them */
#define CPUID_ENTRIES 256

/* Series protected-memory: include/uapi/linux/kvm_para.h */
#define HC_ENABLE 13
#define HC_SHARE 14
#define HC_UNSHARE 15

#define FORCED ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n"	/* ud2; "kvm": KVM's emulator carries out what follows */

/* All but the hypercall begin with a single access: where nothing is, an access of many parts would end many times. */
asm(".section .rodata\n"
    ".code32\n"
    "guest_code:\n"
    /* eax, ebx, ecx: a hypercall */
    "call_kvm:\n"
    "	vmmcall\n"
    "	out %al, $0xe1\n"
    /* edi: a page; eax: a word */
    "fill:\n"
    "	mov %eax, (%edi)\n"
    "	mov $1024, %ecx\n"
    "	rep stosl\n"
    "	out %al, $0xe1\n"
    "fill_emulated:\n"
    FORCED
    "	mov %eax, (%edi)\n"
    "	mov $1024, %ecx\n"
    FORCED
    "	rep stosl\n"
    "	out %al, $0xe1\n"
    /* edi: a page; eax gets its first word, ebx whether there is another one */
    "look:\n"
    "	mov (%edi), %eax\n"
    "	mov $1024, %ecx\n"
    "	repe scasl\n"
    "	setne %bl\n"
    "	movzbl %bl, %ebx\n"
    "	out %al, $0xe1\n"
    "look_emulated:\n"
    FORCED
    "	mov (%edi), %eax\n"
    "	mov $1024, %ecx\n"
    FORCED
    "	repe scasl\n"
    "	setne %bl\n"
    "	movzbl %bl, %ebx\n"
    "	out %al, $0xe1\n"
    "guest_code_end:\n"
    ".code64\n"
    ".text\n");
extern const unsigned char guest_code[], guest_code_end[], call_kvm[], fill[], fill_emulated[], look[], look_emulated[];

struct vm {
	int fd, cpu;
	struct kvm_run *run;
	unsigned char *ram;
};

static int kvm;
static struct vm first, second;
static unsigned char *arena;

/* What becomes of the frames that the process had, for the parent to look. */
struct ledger {
	bool ended;	/* as a line said */
	uint32_t count;
	uint64_t frame[FRAMES];
};

static struct ledger *ledger;

/* --- what a page holds -------------------------------------------------------------------------------------------- */

/* "0" for zeros, else the number of its mark; "other" for anything else. */
static const char *named(const void *page)
{
	static char text[16];
	const uint32_t *const words = page;

	if (memcmp(words, words + 1, PAGE - 4))
		return "other";
	if (words[0] && (words[0] & ~NUMBER) != MARK)
		return "other";
	snprintf(text, sizeof(text), "%u", words[0] & NUMBER);
	return text;
}

static void mark(void *page, uint32_t number)
{
	for (unsigned int i = 0; i < PAGE / 4; i++)
		((volatile uint32_t *)page)[i] = MARK | number;
}

static const char *errno_name(int error)
{
	const char *const name = strerrorname_np(error);

	return name ? name : "unnamed";
}

static sigjmp_buf after_fault;
static const char *volatile fault_name;

static void take_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	fault_name = number == SIGSEGV ? "SIGSEGV" : info->si_code == BUS_ADRERR ? "SIGBUS" : "SIGBUS-other";
	siglongjmp(after_fault, 1);
}

/* What a load of the whole page gets, or which signal the first of its loads met. */
static const char *by_load(const void *page)
{
	static uint64_t copy[PAGE / 8];

	if (sigsetjmp(after_fault, 0))	/* the signals may come again: SA_NODEFER */
		return fault_name;
	for (unsigned int i = 0; i < PAGE / 8; i++)
		copy[i] = ((const volatile uint64_t *)page)[i];
	return named(copy);
}

static const char *by_store(void *page, uint32_t number)
{
	if (sigsetjmp(after_fault, 0))
		return fault_name;
	mark(page, number);
	return "ok";
}

static unsigned char buffer[PAGE];

static const char *by_write(const void *page)
{
	static int ends[2];

	if (!ends[0] && pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	const ssize_t done = write(ends[1], page, PAGE);

	if (done < 0) {
		const int error = errno;

		close(ends[0]);	/* what failed leaves an empty piece in the pipe, which has room for a few */
		close(ends[1]);
		ends[0] = 0;
		return errno_name(error);
	}
	if (read(ends[0], buffer, PAGE) != done)
		cannot("read from a pipe");
	return done == (ssize_t)PAGE ? named(buffer) : "short";
}

static const char *by_process_vm_readv(const void *page)
{
	struct iovec here = { buffer, PAGE }, there = { (void *)(uintptr_t)page, PAGE };
	const ssize_t done = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return done < 0 ? errno_name(errno) : done == (ssize_t)PAGE ? named(buffer) : "short";
}

static int open_path(const char *path, int flags)
{
	const int file = open(path, flags | O_CLOEXEC);

	if (file < 0)
		cannot(path);
	return file;
}

static const char *by_proc_mem(const void *page)
{
	static int file;

	if (!file)
		file = open_path("/proc/self/mem", O_RDONLY);
	const ssize_t done = pread(file, buffer, PAGE, (off_t)(uintptr_t)page);

	return done < 0 ? errno_name(errno) : done == (ssize_t)PAGE ? named(buffer) : "short";
}

/* The frame behind an address of this process, or 0. */
static uint64_t frame_of(const void *page)
{
	static int file;
	uint64_t entry;

	if (!file)
		file = open_path("/proc/self/pagemap", O_RDONLY);
	if (pread(file, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * sizeof(entry))) != sizeof(entry))
		cannot("read /proc/self/pagemap");
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

/* Reads a frame at its place in the kernel's direct map; returns whether the kernel could. */
static bool read_frame(uint64_t frame)
{
	static int file;
	struct sealproof_attack attack = { .method = SEALPROOF_DIRECT_MAP_READ, .target = frame * PAGE, .length = PAGE,
					   .buffer = (uintptr_t)buffer };

	if (!file)
		file = open_path("/dev/" SEALPROOF_ATTACK_NAME, O_RDWR);
	if (ioctl(file, SEALPROOF_ATTACK, &attack))
		cannot("have the attack module try");
	return attack.done == PAGE;
}

static const char *by_direct_map(const void *page)
{
	const uint64_t frame = frame_of(page);

	if (!frame)
		return "none";
	return read_frame(frame) ? named(buffer) : "kept";
}

/* --- the VM ------------------------------------------------------------------------------------------------------- */

static void *map(size_t pages)
{
	void *const where = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (where == MAP_FAILED)
		cannot("map memory");
	return where;
}

static int set_slot(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t pages, void *where)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = pages * PAGE,
		.userspace_addr = (uintptr_t)where,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? errno : 0;
}

static void offer_all(const struct vm *vm)
{
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table) || ioctl(vm->cpu, KVM_SET_CPUID2, table))
		cannot("set the VM's CPUID");
	free(table);
}

static void set_mode(const struct vm *vm, bool reset)
{
	static const struct kvm_segment code = { .limit = 0xffffffff, .selector = 8, .type = 0xb, .present = 1, .db = 1,
						 .s = 1, .g = 1 };
	struct kvm_segment data = code;
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the virtual CPU's registers");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x33;	/* NE, ET, MP, PE */
	if (reset) {	/* what a machine's reset leaves: the reset vector, in real mode */
		sregs.cs = (struct kvm_segment){ .base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .type = 0xb,
						 .present = 1, .s = 1 };
		sregs.cr0 = 0x60000010;
	}
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs))
		cannot("set the virtual CPU's registers");
}

static void load_code(const struct vm *vm)
{
	memcpy(vm->ram + CODE, guest_code, (size_t)(guest_code_end - guest_code));
}

static void make_vm(struct vm *vm)
{
	const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0 || ioctl(vm->fd, KVM_CREATE_IRQCHIP))
		cannot("create a VM by /dev/kvm");
	vm->ram = map(RAM_PAGES);
	for (unsigned int page = 0; page < RAM_PAGES; page++)
		vm->ram[page * PAGE] = 0;
	load_code(vm);
	errno = set_slot(vm, 0, 0, 0, RAM_PAGES, vm->ram);
	if (errno)
		cannot("give the VM memory");
	vm->cpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = vm->cpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu, 0);
	if (vm->run == MAP_FAILED)
		cannot("create a virtual CPU");
	offer_all(vm);
	set_mode(vm, false);
}

static struct kvm_regs job(const unsigned char *what)
{
	return (struct kvm_regs){ .rip = CODE + (uint64_t)(what - guest_code), .rflags = 2 };
}

/* Has the guest do a job; how that ended: "ok", or how KVM did not go on. It is not the guest that ends. */
static const char *run(const struct vm *vm, struct kvm_regs *regs)
{
	struct kvm_run *const told = vm->run;

	if (ioctl(vm->cpu, KVM_SET_REGS, regs))
		cannot("set the virtual CPU's registers");
	if (ioctl(vm->cpu, KVM_RUN, 0))
		return errno_name(errno);
	switch (told->exit_reason) {
	case KVM_EXIT_IO:
		if (told->io.port != DONE_PORT || ioctl(vm->cpu, KVM_GET_REGS, regs))
			return "port";
		return "ok";
	case KVM_EXIT_MMIO:	/* an access begun ends, but not one more begins */
		memset(told->mmio.data, 0, sizeof(told->mmio.data));
		told->immediate_exit = 1;
		ioctl(vm->cpu, KVM_RUN, 0);
		told->immediate_exit = 0;
		return "device";
	case KVM_EXIT_INTERNAL_ERROR:
		return told->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? "emulation" : "internal";
	case KVM_EXIT_SHUTDOWN:
		return "shutdown";
	default:
		return "exit";
	}
}

static void add_call(struct text *reply, const struct vm *vm, uint64_t number, uint64_t a0, uint64_t a1)
{
	struct kvm_regs regs = job(call_kvm);

	regs.rax = number;
	regs.rbx = a0;
	regs.rcx = a1;
	const char *const end = run(vm, &regs);

	if (strcmp(end, "ok"))
		text_add(reply, "\"%s\"", end);
	else
		text_add(reply, "%d", (int32_t)regs.rax);
}

/* What the guest finds in one of its pages. */
static const char *guest_looks(const struct vm *vm, uint64_t gpa, bool emulated)
{
	static char text[16];
	struct kvm_regs regs = job(emulated ? look_emulated : look);

	regs.rdi = gpa;
	const char *const end = run(vm, &regs);

	if (strcmp(end, "ok"))
		return end;
	if (regs.rbx || ((uint32_t)regs.rax && ((uint32_t)regs.rax & ~NUMBER) != MARK))
		return "other";
	snprintf(text, sizeof(text), "%u", (uint32_t)regs.rax & NUMBER);
	return text;
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static uint64_t number(const char *word)
{
	uint64_t value;

	if (!parse_number(word, &value)) {
		errno = EINVAL;
		cannot(word);
	}
	return value;
}

static unsigned char *place(const char *word)
{
	return arena + number(word) * PAGE;
}

static bool is_emulated(const char *word)
{
	return !strcmp(word, "emulated");
}

static void add_result(struct text *reply, const char *result)
{
	text_add(reply, "\"%s\"", result);
}

static void add_error(struct text *reply, int error)
{
	add_result(reply, error ? errno_name(error) : "ok");
}

static void add_each(struct text *reply, unsigned int i, const char *result)
{
	text_add(reply, "%s\"%s\"", i ? "," : "", result);
}

static void do_enable(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	add_call(reply, &first, HC_ENABLE, 0, 0);
}

static void do_share(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_call(reply, &first, HC_SHARE, number(args[0]), number(args[1]));
}

static void do_unshare(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_call(reply, &first, HC_UNSHARE, number(args[0]), number(args[1]));
}

/* fill GFN PAGES NUMBER native|emulated: each page gets a number of its own */
static void do_fill(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number(args[1]); i++) {
		struct kvm_regs regs = job(is_emulated(args[3]) ? fill_emulated : fill);

		regs.rdi = (number(args[0]) + i) * PAGE;
		regs.rax = MARK | (uint32_t)(number(args[2]) + i);
		add_each(reply, i, run(&first, &regs));
	}
	text_add(reply, "]");
}

/* look GFN PAGES native|emulated */
static void do_look(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number(args[1]); i++)
		add_each(reply, i, guest_looks(&first, (number(args[0]) + i) * PAGE, is_emulated(args[2])));
	text_add(reply, "]");
}

/* slot ID GFN PAGES PLACE rw|ro */
static void do_slot(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, set_slot(&first, (uint32_t)number(args[0]), strcmp(args[4], "ro") ? 0 : KVM_MEM_READONLY,
				  number(args[1]) * PAGE, number(args[2]), place(args[3])));
}

static void do_unslot(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, set_slot(&first, (uint32_t)number(args[0]), 0, 0, 0, arena));
}

/* store PLACE PAGES NUMBER: by the VMM */
static void do_store(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number(args[1]); i++)
		add_each(reply, i, by_store(place(args[0]) + i * PAGE, (uint32_t)(number(args[2]) + i)));
	text_add(reply, "]");
}

/* map PLACE PAGES NUMBER: other memory, filled */
static void do_map(int argc, char **args, struct text *reply)
{
	unsigned char *const where = place(args[0]);
	const uint64_t pages = number(args[1]);
	const bool there = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				0) == where;

	(void)argc;
	add_error(reply, there ? 0 : errno);
	for (unsigned int i = 0; there && i < pages; i++)
		mark(where + i * PAGE, (uint32_t)(number(args[2]) + i));
}

static void do_unmap(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, munmap(place(args[0]), number(args[1]) * PAGE) ? errno : 0);
}

/* move FROM TO all|content: one page by mremap(), with its mapping or without */
static void do_move(int argc, char **args, struct text *reply)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (strcmp(args[2], "content") ? 0 : MREMAP_DONTUNMAP);

	(void)argc;
	add_error(reply, mremap(place(args[0]), PAGE, PAGE, flags, place(args[1])) == MAP_FAILED ? errno : 0);
}

/* protect PLACE PAGES none|read|write: mprotect() */
static void do_protect(int argc, char **args, struct text *reply)
{
	const int rights = !strcmp(args[2], "none") ? PROT_NONE :
			   !strcmp(args[2], "read") ? PROT_READ : PROT_READ | PROT_WRITE;

	(void)argc;
	add_error(reply, mprotect(place(args[0]), number(args[1]) * PAGE, rights) ? errno : 0);
}

static void do_advise(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, madvise(place(args[0]), number(args[1]) * PAGE, (int)number(args[2])) ? errno : 0);
}

/* mm/gup_test.h: the kernel's own test of pins, as drivers take them */
struct pin_longterm_test {
	uint64_t addr, size;
	uint32_t flags;
};

#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP _IO('g', 8)
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, uint64_t)

struct ring {
	int fd;
	struct io_uring_sqe *entry;
	struct io_uring_cqe *results;
	uint32_t *tail, *head, *mask;
	unsigned char *page;
};

static int pins;	/* the host has one such test at a time */
static uint64_t pinned_pages;
static struct ring rings[HOLDERS];

/* pin PLACE PAGES */
static void do_pin(int argc, char **args, struct text *reply)
{
	struct pin_longterm_test pin = { (uintptr_t)place(args[0]), number(args[1]) * PAGE, 1 };	/* to write */

	(void)argc;
	if (!pins)
		pins = open_path("/sys/kernel/debug/gup_test", O_RDWR);
	pinned_pages = number(args[1]);
	add_error(reply, ioctl(pins, PIN_LONGTERM_TEST_START, &pin) ? errno : 0);
}

static void do_pinned(int argc, char **args, struct text *reply)
{
	unsigned char *const copy = map(pinned_pages);
	uint64_t address = (uintptr_t)copy;

	(void)argc;
	(void)args;
	if (ioctl(pins, PIN_LONGTERM_TEST_READ, &address))
		cannot("read what is pinned");
	text_add(reply, "[");
	for (unsigned int i = 0; i < pinned_pages; i++)
		add_each(reply, i, named(copy + i * PAGE));
	text_add(reply, "]");
	munmap(copy, pinned_pages * PAGE);
}

static void do_unpin(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	add_error(reply, ioctl(pins, PIN_LONGTERM_TEST_STOP) ? errno : 0);
}

static void *map_ring(const struct ring *ring, off_t which)
{
	void *const where = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, which);

	if (where == MAP_FAILED)
		cannot("map a ring of io_uring");
	return where;
}

/* register HOLDER PLACE: a ring for one request at a time, with the page as its buffer; each part fits into a page */
static void do_register(int argc, char **args, struct text *reply)
{
	struct ring *const ring = &rings[number(args[0]) % HOLDERS];
	struct io_uring_params params = { 0 };
	const struct iovec vector = { place(args[1]), PAGE };

	(void)argc;
	ring->fd = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (ring->fd < 0)
		cannot("have a ring of io_uring");
	ring->page = place(args[1]);
	ring->entry = map_ring(ring, IORING_OFF_SQES);
	ring->tail = (uint32_t *)((unsigned char *)map_ring(ring, IORING_OFF_SQ_RING) + params.sq_off.tail);
	unsigned char *const completions = map_ring(ring, IORING_OFF_CQ_RING);

	ring->head = (uint32_t *)(completions + params.cq_off.head);
	ring->mask = (uint32_t *)(completions + params.cq_off.ring_mask);
	ring->results = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
	add_error(reply, syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &vector, 1) ? errno : 0);
}

/* One request of the ring's buffer and a pipe. Return: its result. */
static int transfer(struct ring *ring, uint8_t opcode, int file)
{
	*ring->entry = (struct io_uring_sqe){ .opcode = opcode, .fd = file, .addr = (uintptr_t)ring->page, .len = PAGE };
	__atomic_store_n(ring->tail, *ring->tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		cannot("have io_uring do a request");
	const int result = ring->results[*ring->head & *ring->mask].res;

	__atomic_store_n(ring->head, *ring->head + 1, __ATOMIC_RELEASE);
	return result;
}

/* registered HOLDER [NUMBER]: what is in the buffer, or a page that comes for it */
static void do_registered(int argc, char **args, struct text *reply)
{
	struct ring *const ring = &rings[number(args[0]) % HOLDERS];
	int ends[2], result;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	if (argc == 2) {
		mark(buffer, (uint32_t)number(args[1]));
		if (write(ends[1], buffer, PAGE) != (ssize_t)PAGE)
			cannot("write to a pipe");
	}
	result = transfer(ring, argc == 2 ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED, ends[argc == 2 ? 0 : 1]);
	if (result != (int)PAGE)
		add_result(reply, result < 0 ? errno_name(-result) : "short");
	else if (argc == 2)
		add_result(reply, "ok");
	else if (read(ends[0], buffer, PAGE) != (ssize_t)PAGE)
		cannot("read from a pipe");
	else
		add_result(reply, named(buffer));
	close(ends[0]);
	close(ends[1]);
}

static void do_unregister(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, syscall(SYS_io_uring_register, rings[number(args[0]) % HOLDERS].fd, IORING_UNREGISTER_BUFFERS, NULL,
				 0) ? errno : 0);
	close(rings[number(args[0]) % HOLDERS].fd);
}

static struct {
	pid_t pid;
	int orders[2], replies[2];
} child;

/* The process has no more to do with the VM. */
static void forget(const struct vm *vm)
{
	if (!vm->fd)
		return;
	munmap(vm->run, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(vm->cpu);
	close(vm->fd);
}

/* A child looks at its own copy of the arena, whenever it is told to. */
static void be_child(void)
{
	struct text told = { 0 };
	char order;

	while (read(child.orders[0], &order, 1) == 1) {
		for (unsigned int i = 0; i < ARENA_PAGES; i++)
			add_each(&told, i, by_load(arena + i * PAGE));
		text_add(&told, "\n");
		if (write(child.replies[1], told.data, told.len) != (ssize_t)told.len)
			break;
		told.len = 0;
	}
	_exit(0);
}

static void do_fork(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	if (pipe2(child.orders, O_CLOEXEC) || pipe2(child.replies, O_CLOEXEC))
		cannot("make a pipe");
	child.pid = fork();
	if (child.pid < 0)
		cannot("fork");
	if (!child.pid) {
		close(child.orders[1]);
		forget(&first);	/* or the VM would live as long as the child */
		forget(&second);
		be_child();
	}
	close(child.orders[0]);
	close(child.replies[1]);
	add_result(reply, "ok");
}

static void do_child(int argc, char **args, struct text *reply)
{
	FILE *const from = fdopen(dup(child.replies[0]), "re");
	char *line = NULL;
	size_t room = 0;

	(void)argc;
	(void)args;
	if (write(child.orders[1], "x", 1) != 1 || !from)
		cannot("ask the child");
	const ssize_t length = getline(&line, &room, from);

	if (length <= 0)
		cannot("hear of the child");
	line[length - 1] = 0;
	text_add(reply, "[%s]", line);
	free(line);
	fclose(from);
}

static void do_reap(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	close(child.orders[1]);
	close(child.replies[0]);
	if (waitpid(child.pid, NULL, 0) != child.pid)
		cannot("wait for the child");
	child.pid = 0;
	add_result(reply, "ok");
}

static struct {
	pthread_t thread;
	unsigned char *page;
	int ends[2];
	volatile pid_t tid;
	ssize_t done;
	int error;
} transport;

static void *wait_for_data(void *unused)
{
	(void)unused;
	transport.tid = (pid_t)syscall(SYS_gettid);
	transport.done = read(transport.ends[0], transport.page, PAGE);
	transport.error = errno;
	return NULL;
}

/* await PLACE: a thread begins to read() into the page, for which there is nothing yet */
static void do_await(int argc, char **args, struct text *reply)
{
	char path[64], state = 0;

	(void)argc;
	transport.page = place(args[0]);
	transport.tid = 0;
	if (pipe2(transport.ends, O_CLOEXEC))
		cannot("make a pipe");
	errno = pthread_create(&transport.thread, NULL, wait_for_data, NULL);
	if (errno)
		cannot("start a thread");
	while (!transport.tid)
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", transport.tid);
	while (state != 'S') {	/* in the call, asleep */
		FILE *const file = fopen(path, "re");

		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			cannot("read how the thread is");
		fclose(file);
	}
	add_result(reply, "ok");
}

/* arrive NUMBER: there is something for it */
static void do_arrive(int argc, char **args, struct text *reply)
{
	(void)argc;
	mark(buffer, (uint32_t)number(args[0]));
	if (write(transport.ends[1], buffer, PAGE) != (ssize_t)PAGE)
		cannot("write to a pipe");
	pthread_join(transport.thread, NULL);
	close(transport.ends[0]);
	close(transport.ends[1]);
	if (transport.done < 0)
		add_error(reply, transport.error);
	else
		add_result(reply, transport.done == (ssize_t)PAGE ? "ok" : "short");
}

/* second PLACE PAGES: a second VM of this process sees these */
static void do_second(int argc, char **args, struct text *reply)
{
	(void)argc;
	if (!second.fd)
		make_vm(&second);
	set_slot(&second, 1, 0, 0, 0, arena);	/* there may be none */
	add_error(reply, set_slot(&second, 1, 0, WINDOW, number(args[1]), place(args[0])));
}

/* seconds PAGES: what it finds there */
static void do_seconds(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number(args[0]); i++)
		add_each(reply, i, guest_looks(&second, WINDOW + i * PAGE, false));
	text_add(reply, "]");
}

static void do_second_enables(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	if (!second.fd)
		make_vm(&second);
	add_call(reply, &second, HC_ENABLE, 0, 0);
}

/* The machine is reset as a VMM does it, and begins anew. */
static void do_reset(int argc, char **args, struct text *reply)
{
	struct kvm_regs regs = { .rflags = 2, .rip = 0xfff0 };

	(void)argc;
	(void)args;
	set_mode(&first, true);
	run(&first, &regs);	/* whatever comes of that */
	set_mode(&first, false);
	if (sigsetjmp(after_fault, 0)) {
		add_result(reply, fault_name);
		return;
	}
	memset(first.ram, 0, RAM_PAGES * PAGE);
	load_code(&first);
	add_result(reply, "ok");
}

/* The VM is no more; its VMM is. */
static void do_destroy(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	forget(&first);
	add_result(reply, "ok");
}

/* Of each page of the arena: load, write(), process_vm_readv(), /proc/self/mem, direct map; one word if they agree. */
static void do_sweep(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	text_add(reply, "[");
	for (unsigned int i = 0; i < ARENA_PAGES; i++) {
		const unsigned char *const page = arena + i * PAGE;
		char found[5][16];
		bool agree = true;

		snprintf(found[0], sizeof(*found), "%s", by_load(page));
		snprintf(found[1], sizeof(*found), "%s", by_write(page));
		snprintf(found[2], sizeof(*found), "%s", by_process_vm_readv(page));
		snprintf(found[3], sizeof(*found), "%s", by_proc_mem(page));
		snprintf(found[4], sizeof(*found), "%s", by_direct_map(page));
		for (unsigned int way = 1; way < 5; way++)
			agree &= !strcmp(found[way], found[0]);
		if (agree)
			add_each(reply, i, found[0]);
		else
			text_add(reply, "%s\"%s %s %s %s %s\"", i ? "," : "", found[0], found[1], found[2], found[3], found[4]);
	}
	text_add(reply, "]");
}

static uint64_t counted(const char *text, const char *name)
{
	const char *const found = strstr(text, name);

	return found ? strtoull(found + strlen(name), NULL, 10) : UINT64_MAX;
}

/* What KVM has of the VM: whether it is protected, its counts, and which pages are shared, by its own book. */
static void do_book(int argc, char **args, struct text *reply)
{
	static struct sealproof_slot slots[64];
	static struct sealproof_pages shared[SHARED_MOST];
	struct sealproof_vm vm = { .fd = (uint32_t)first.fd, .slots = 64, .slot_buffer = (uintptr_t)slots,
				   .shared = SHARED_MOST, .shared_buffer = (uintptr_t)shared };
	char path[96], text[512] = "";

	(void)argc;
	(void)args;
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/protected_memory", getpid(), first.fd);
	const int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0) {	/* a kernel that knows nothing of it */
		add_result(reply, "none");
		return;
	}
	if (read(file, text, sizeof(text) - 1) <= 0)
		cannot(path);
	close(file);
	const int oracle = open_path("/dev/" SEALPROOF_ORACLE_NAME, O_RDWR);

	if (ioctl(oracle, SEALPROOF_VM, &vm))
		cannot("ask KVM about the VM");
	close(oracle);
	text_add(reply, "{\"protected\":%u,\"private\":%llu,\"shared\":%llu,\"book\":[", vm.protected,
		 (unsigned long long)counted(text, "private_pages: "), (unsigned long long)counted(text, "shared_pages: "));
	for (uint64_t i = 0; i < vm.shared; i++)
		text_add(reply, "%s[%llu,%llu]", i ? "," : "", (unsigned long long)shared[i].gfn,
			 (unsigned long long)shared[i].pages);
	text_add(reply, "]}");
}

/* The frame of each page of the arena, 0 where there is none: to be looked for in page tables from outside. */
static void do_frames(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	text_add(reply, "[");
	for (unsigned int i = 0; i < ARENA_PAGES; i++)
		text_add(reply, "%s%llu", i ? "," : "", (unsigned long long)frame_of(arena + i * PAGE));
	text_add(reply, "]");
}

static void note_frames(void)
{
	for (unsigned int i = 0; i < ARENA_PAGES && ledger->count < FRAMES; i++) {
		const uint64_t frame = frame_of(arena + i * PAGE);

		if (frame)
			ledger->frame[ledger->count++] = frame;
	}
}

/* end kill|exit: how the process is to end, after which its frames are looked at */
static void do_end(int argc, char **args, struct text *reply)
{
	(void)argc;
	if (child.pid) {
		kill(child.pid, SIGKILL);
		waitpid(child.pid, NULL, 0);
	}
	note_frames();
	ledger->ended = true;
	(void)reply;
	fflush(stdout);
	if (!strcmp(args[0], "kill"))
		kill(getpid(), SIGKILL);
	_exit(0);
}

static const struct command commands[] = {
	{ "enable", 0, 0, "enable", do_enable },
	{ "share", 2, 2, "share GFN PAGES", do_share },
	{ "unshare", 2, 2, "unshare GFN PAGES", do_unshare },
	{ "fill", 4, 4, "fill GFN PAGES NUMBER native|emulated", do_fill },
	{ "look", 3, 3, "look GFN PAGES native|emulated", do_look },
	{ "slot", 5, 5, "slot ID GFN PAGES PLACE rw|ro", do_slot },
	{ "unslot", 1, 1, "unslot ID", do_unslot },
	{ "store", 3, 3, "store PLACE PAGES NUMBER", do_store },
	{ "map", 3, 3, "map PLACE PAGES NUMBER", do_map },
	{ "unmap", 2, 2, "unmap PLACE PAGES", do_unmap },
	{ "move", 3, 3, "move FROM TO all|content", do_move },
	{ "protect", 3, 3, "protect PLACE PAGES none|read|write", do_protect },
	{ "advise", 3, 3, "advise PLACE PAGES ADVICE", do_advise },
	{ "pin", 2, 2, "pin PLACE PAGES", do_pin },
	{ "pinned", 0, 0, "pinned", do_pinned },
	{ "unpin", 0, 0, "unpin", do_unpin },
	{ "register", 2, 2, "register HOLDER PLACE", do_register },
	{ "registered", 1, 2, "registered HOLDER [NUMBER]", do_registered },
	{ "unregister", 1, 1, "unregister HOLDER", do_unregister },
	{ "fork", 0, 0, "fork", do_fork },
	{ "child", 0, 0, "child", do_child },
	{ "reap", 0, 0, "reap", do_reap },
	{ "await", 1, 1, "await PLACE", do_await },
	{ "arrive", 1, 1, "arrive NUMBER", do_arrive },
	{ "second", 2, 2, "second PLACE PAGES", do_second },
	{ "seconds", 1, 1, "seconds PAGES", do_seconds },
	{ "second_enables", 0, 0, "second_enables", do_second_enables },
	{ "reset", 0, 0, "reset", do_reset },
	{ "destroy", 0, 0, "destroy", do_destroy },
	{ "sweep", 0, 0, "sweep", do_sweep },
	{ "book", 0, 0, "book", do_book },
	{ "frames", 0, 0, "frames", do_frames },
	{ "end", 1, 1, "end kill|exit", do_end },
	{ 0 },
};

/* The numbers of marks that a frame holds, wherever they are in it. */
static void add_marks(struct text *reply, bool *any)
{
	uint32_t last = 0;

	for (unsigned int i = 0; i < PAGE / 4; i++) {
		const uint32_t word = ((const uint32_t *)(void *)buffer)[i];

		if ((word & ~NUMBER) != MARK || word == last)
			continue;
		text_add(reply, "%s%u", *any ? "," : "", word & NUMBER);
		*any = true;
		last = word;
	}
}

/* What the frames of a process that has ended hold now; who has one of them by now may have filled it. */
static void look_at_frames(struct text *reply)
{
	bool any = false;
	unsigned int kept = 0;

	text_add(reply, "{\"marks\":[");
	for (uint32_t i = 0; i < ledger->count; i++) {
		if (read_frame(ledger->frame[i]))
			add_marks(reply, &any);
		else
			kept++;
	}
	text_add(reply, "],\"frames\":%u,\"kept\":%u}", ledger->count, kept);
	print_line(reply);
}

static void live(FILE *lines)
{
	struct sigaction on_fault = { .sa_sigaction = take_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct text reply = { 0 };
	char *line = NULL;
	size_t room = 0;

	sigaction(SIGBUS, &on_fault, NULL);
	sigaction(SIGSEGV, &on_fault, NULL);
	alarm(DEADLINE_S);
	kvm = open_path("/dev/kvm", O_RDWR);
	make_vm(&first);
	arena = mmap(ARENA, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (arena != ARENA)
		cannot("map the arena");
	for (unsigned int page = 0; page < ARENA_PAGES; page++)
		arena[page * PAGE] = 0;	/* or what mremap() moves would have no place that it came from */
	while (getline(&line, &room, lines) > 0) {
		line[strcspn(line, "\n")] = 0;
		answer(commands, line, &reply);
		print_line(&reply);
	}
}

int main(int argc, char **argv)
{
	struct text reply = { 0 };
	int status;

	(void)argv;
	if (argc != 1) {
		fprintf(stderr, "usage: driven_vm < LINES\n");
		return 2;
	}
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ledger == MAP_FAILED)
		cannot("map memory");
	const pid_t pid = fork();

	if (!pid) {
		live(stdin);
		return 0;
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		cannot("wait for the VMM");
	if (ledger->ended)
		look_at_frames(&reply);
	else if (WIFSIGNALED(status))
		fprintf(stderr, "the VMM ended by signal %d\n", WTERMSIG(status));
	return ledger->ended || (WIFEXITED(status) && !WEXITSTATUS(status)) ? 0 : 1;
}
