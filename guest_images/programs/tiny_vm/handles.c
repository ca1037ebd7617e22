// SPDX-License-Identifier: GPL-2.0-or-later
/* What the VMM took before: pins, pipes, buffers, another VM. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "handles.h"
#include "exits.h"
#include "ranges.h"
#include "refusals.h"

#define PIN_PAGE 0	/* of the operands */
#define PIPE_PAGE 1
#define VM_PAGE 2
#define BUFFER_PAGE 3
#define HELD_PAGES 4u

/* The host takes what it can of shared pages, the guest takes them back and writes something else there. */
static GUEST void handles_are_dead(bool at_once)
{
	const uint64_t pages = (uint64_t)operands, reached_bytes = way == PRIVATE ? 0 : PAGE;

	tell("to share the pages", 0, change(HC_SHARE, pages, HELD_PAGES));
	for (unsigned int page = 0; page < HELD_PAGES; page++)
		fill_pages(pages + page * PAGE, 1, OLD_WORD);
	tell("what the host took: pin, page in a pipe, a second VM's, buffer of io_uring", 15, service(TAKE_HANDLES));
	if (way == PRIVATE && at_once) {
		tell("to take back all that is held by one request", 0, change(HC_UNSHARE, pages, HELD_PAGES));
	} else if (way == PRIVATE) {
		tell("to take back a page that is pinned", 0, change(HC_UNSHARE, pages + PIN_PAGE * PAGE, 1));
		tell("to take back a page that is in a pipe", 0, change(HC_UNSHARE, pages + PIPE_PAGE * PAGE, 1));
		tell("to take back a page that a second VM has", 0, change(HC_UNSHARE, pages + VM_PAGE * PAGE, 1));
		tell("to take back a registered buffer", 0, change(HC_UNSHARE, pages + BUFFER_PAGE * PAGE, 1));
	}
	for (unsigned int page = 0; page < HELD_PAGES; page++) {
		tell("a page as the guest left it", 1, whole_pages(pages + page * PAGE, 1, OLD_WORD));
		fill_pages(pages + page * PAGE, 1, NEW_WORD);
	}
	tell("bytes of what the guest wrote since, by the pin", reached_bytes, service(LOOK_BY_PIN));
	tell("bytes of what the guest wrote since, by the pipe", reached_bytes, service(LOOK_BY_PIPE));
	tell("bytes of what the guest wrote since, by the second VM", reached_bytes, service(LOOK_BY_VM));
	tell("bytes of what the guest wrote since, by the buffer", reached_bytes, service(LOOK_BY_BUFFER));
	for (unsigned int page = 0; page < HELD_PAGES; page++)
		tell("a page as the guest wrote it last", 1, whole_pages(pages + page * PAGE, 1, NEW_WORD));
}

static GUEST void handles_are_dead_one_by_one(void)
{
	handles_are_dead(false);
}

static GUEST void handles_are_dead_at_once(void)
{
	handles_are_dead(true);
}

/*
 * One VM of a process can be protected: another one could be given the first one's memory. That other one ends, and
 * takes nothing along that is not its own.
 */
static GUEST void another_is_refused(void)
{
	tell("what another VM of the process is told", way == PLAIN ? 0 : IS_BUSY, service(ASK_ANOTHER));
	service(END_ANOTHER);
	tell("what one more is told when that one has ended", way == PLAIN ? 0 : IS_BUSY, service(ASK_ANOTHER));
}

/* mm/gup_test.h: the kernel's own test of pins, as drivers take them. */
struct pin_longterm_test {
	uint64_t addr, size;
	uint32_t flags;
};

#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, uint64_t)

#define COPY_FROM 0x10000u	/* in the second VM */
#define COPY_TO 0x1000u

static struct {
	int pins, pipe[2], cpu;
	int ring, copied[2];	/* of io_uring, and a pipe for what it writes */
	struct io_uring_sqe *entry;
	struct io_uring_cqe *result;
	uint32_t *tail;
	struct kvm_run *run;
	unsigned char *memory;	/* of the second VM: code, and where it copies to */
} held;

/* A VM over the page: real-mode code that copies it. */
static void make_second_vm(const struct vm *vm, void *page)
{
	static const unsigned char code[] = { 0x66, 0xf3, 0xa5, 0xe6, 0x80 };	/* rep movsd; out %al, $0x80 */
	const struct vm second = { .fd = ioctl(vm->kvm, KVM_CREATE_VM, 0) };
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	held.memory = map(2 * PAGE);
	memcpy(held.memory, code, sizeof(code));
	if (second.fd < 0 || size < 0)
		cannot("create a second VM");
	add_memory(&second, 0, 0, 0, 2 * PAGE, held.memory);
	add_memory(&second, 1, 0, COPY_FROM, PAGE, page);
	held.cpu = ioctl(second.fd, KVM_CREATE_VCPU, 0);
	held.run = held.cpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, held.cpu, 0);
	if (held.run == MAP_FAILED)
		cannot("create a second VM's processor");
}

/* How many bytes of the new pattern there are. */
static uint64_t new_bytes(const void *bytes)
{
	uint64_t count = 0, word;

	for (unsigned int i = 0; i < PAGE; i += sizeof(word)) {
		memcpy(&word, (const unsigned char *)bytes + i, sizeof(word));
		count += word == NEW_WORD ? sizeof(word) : 0;
	}
	return count;
}

/* Has the second VM copy the page; true if it did. */
static bool second_vm_copies(void)
{
	struct kvm_regs regs = { .rflags = 2, .rcx = PAGE / 4 };
	struct kvm_sregs sregs;

	memset(held.memory + COPY_TO, 0, PAGE);
	if (ioctl(held.cpu, KVM_GET_SREGS, &sregs))
		cannot("read the second VM's registers");
	sregs.cs = segment(0, 0, 0xb, MODE16);
	sregs.ds = segment(COPY_FROM, COPY_FROM / 16, 3, MODE16);
	sregs.es = segment(COPY_TO, COPY_TO / 16, 3, MODE16);
	sregs.cr0 = 0x10;
	if (ioctl(held.cpu, KVM_SET_SREGS, &sregs) || ioctl(held.cpu, KVM_SET_REGS, &regs))
		cannot("set the second VM's registers");
	return !ioctl(held.cpu, KVM_RUN, 0) && held.run->exit_reason == KVM_EXIT_IO;
}

static void *map_ring(off_t which)
{
	void *const where = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, held.ring, which);

	if (where == MAP_FAILED)
		cannot("map a ring of io_uring");
	return where;
}

/* A ring for one request, with the page as its buffer; each of its three parts fits into a page. */
static bool register_buffer(void *page)
{
	struct io_uring_params params = { 0 };
	const struct iovec buffer = { page, PAGE };

	held.ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (held.ring < 0 || pipe2(held.copied, O_CLOEXEC | O_NONBLOCK))
		cannot("have a ring of io_uring, and a pipe");
	held.entry = map_ring(IORING_OFF_SQES);
	held.tail = (uint32_t *)((unsigned char *)map_ring(IORING_OFF_SQ_RING) + params.sq_off.tail);
	held.result = (struct io_uring_cqe *)((unsigned char *)map_ring(IORING_OFF_CQ_RING) + params.cq_off.cqes);
	return !syscall(SYS_io_uring_register, held.ring, IORING_REGISTER_BUFFERS, &buffer, 1);
}

/* Has the kernel write the registered buffer into the pipe; true if it did. */
static bool buffer_is_written(void *page)
{
	*held.entry = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE_FIXED, .fd = held.copied[1],
					     .addr = (uintptr_t)page, .len = PAGE };
	__atomic_store_n(held.tail, 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, held.ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		cannot("have io_uring write its buffer");
	return held.result->res == (int)PAGE;
}

static uint64_t take_handles(const struct vm *vm)
{
	struct pin_longterm_test pin = { (uintptr_t)at(vm, operands[PIN_PAGE]), PAGE, 1 };	/* to write */
	struct iovec vector = { at(vm, operands[PIPE_PAGE]), PAGE };
	uint64_t handles = 0;

	held.pins = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	if (held.pins < 0 || pipe2(held.pipe, O_CLOEXEC | O_NONBLOCK))
		cannot("open /sys/kernel/debug/gup_test, and a pipe");
	handles |= !ioctl(held.pins, PIN_LONGTERM_TEST_START, &pin) ? 1 : 0;
	handles |= vmsplice(held.pipe[1], &vector, 1, 0) == (ssize_t)PAGE ? 2 : 0;
	make_second_vm(vm, at(vm, operands[VM_PAGE]));
	handles |= second_vm_copies() && *(uint64_t *)(held.memory + COPY_TO) == OLD_WORD ? 4 : 0;
	handles |= register_buffer(at(vm, operands[BUFFER_PAGE])) ? 8 : 0;
	return handles;
}

static uint64_t serve_handles(struct vm *vm, uint32_t what)
{
	static unsigned char content[PAGE];
	uint64_t buffer = (uintptr_t)content;

	memset(content, 0, sizeof(content));
	switch (what) {
	case TAKE_HANDLES:
		return take_handles(vm);
	case LOOK_BY_PIN:
		if (ioctl(held.pins, PIN_LONGTERM_TEST_READ, &buffer))
			cannot("read what is pinned");
		return new_bytes(content);
	case LOOK_BY_PIPE:
		if (read(held.pipe[0], content, sizeof(content)) != sizeof(content))
			cannot("read a page from the pipe");
		return new_bytes(content);
	case LOOK_BY_BUFFER:
		if (buffer_is_written(at(vm, operands[BUFFER_PAGE])) &&
		    read(held.copied[0], content, sizeof(content)) != sizeof(content))
			cannot("read the buffer from a pipe");
		return new_bytes(content);
	default:
		second_vm_copies();	/* it may be refused */
		return new_bytes(held.memory + COPY_TO);
	}
}

/* KVM ends a VM of one processor when nobody has any file of it, nor the processor's page mapped. */
static void end_vm(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < 0 || munmap(vm->run, (size_t)size) || close(vm->cpu) || close(vm->fd) || close(vm->kvm))
		cannot("end a VM");
}

/* What another VM of a process is told whose first one is refused, as KVM has an address of the VMM's there. */
static uint64_t ask_ungiven(void)
{
	static const struct row asks = { "another", nothing_more, .operands = operands, .pages = 1 };
	static struct vm another;
	const struct row *const ours = row;

	row = &asks;
	make_vm(&another);
	set_mode(&another, MODE64, guest_begins);
	run_until(&another, PORT_READY);
	row = ours;
	const uint64_t answer = another.wrong[0] ? 1 : ((struct report *)at(&another, &shared.report))->enabled;

	end_vm(&another);
	return answer;
}

/* What another VM of this process is told when it asks for protection. */
uint64_t ask_another(struct vm *vm, uint32_t what)
{
	static struct vm another;

	if (what == ASK_UNGIVEN)
		return ask_ungiven();
	if (what == END_ANOTHER) {
		end_vm(&another);
		return 0;
	}
	another = (struct vm){ 0 };
	make_vm(&another);
	/* Memory of the first one, which it would have as its own if it had protection. */
	add_memory(&another, 3, 0, EXTRA_SLOT, PAGE, at(vm, operands));
	*(enum way *)at(&another, &way) = way == PLAIN ? PLAIN : PRIVATE;
	set_mode(&another, MODE64, guest_begins);
	run_until(&another, PORT_READY);
	if (another.wrong[0])
		snprintf(vm->wrong, sizeof(vm->wrong), "another VM: %.100s", another.wrong);
	return ((struct report *)at(&another, &shared.report))->enabled;
}

const struct row handles_rows[] = {
	{ "handles", handles_are_dead_one_by_one, .operands = operands, .pages = HELD_PAGES, .serve = serve_handles },
	{ "handles-at-once", handles_are_dead_at_once, .operands = operands, .pages = HELD_PAGES, .serve = serve_handles },
	{ "another", another_is_refused, .operands = operands, .pages = 1, .serve = ask_another },
	{ .name = NULL },
};
