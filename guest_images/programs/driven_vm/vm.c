// SPDX-License-Identifier: GPL-2.0-or-later
/* A VM with one virtual CPU, and its guest: a few instructions in 32-bit mode without paging. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../lib/check.h"
#include "page.h"
#include "vm.h"

#define CODE 0x1000u		/* of the guest's memory, which has RAM_PAGES beside the arena */
#define DONE_PORT 0xe1
#define CPUID_ENTRIES 256

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

int kvm_file;
struct vm first_vm, second_vm;

void *map_pages(size_t pages)
{
	void *const where = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (where == MAP_FAILED)
		cannot("map memory");
	return where;
}

int set_slot(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t pages, void *where)
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
	if (ioctl(kvm_file, KVM_GET_SUPPORTED_CPUID, table) || ioctl(vm->cpu, KVM_SET_CPUID2, table))
		cannot("set the VM's CPUID");
	free(table);
}

void set_processor(const struct vm *vm, bool reset)
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

void load_guest_code(const struct vm *vm)
{
	memcpy(vm->ram + CODE, guest_code, (size_t)(guest_code_end - guest_code));
}

void make_driven_vm(struct vm *vm)
{
	const int size = ioctl(kvm_file, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->fd = ioctl(kvm_file, KVM_CREATE_VM, 0);
	if (vm->fd < 0 || ioctl(vm->fd, KVM_CREATE_IRQCHIP))
		cannot("create a VM by /dev/kvm");
	vm->ram = map_pages(RAM_PAGES);
	for (unsigned int page = 0; page < RAM_PAGES; page++)
		vm->ram[page * PAGE] = 0;
	load_guest_code(vm);
	errno = set_slot(vm, 0, 0, 0, RAM_PAGES, vm->ram);
	if (errno)
		cannot("give the VM memory");
	vm->cpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = vm->cpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu, 0);
	if (vm->run == MAP_FAILED)
		cannot("create a virtual CPU");
	offer_all(vm);
	set_processor(vm, false);
}

static struct kvm_regs job(const unsigned char *what)
{
	return (struct kvm_regs){ .rip = CODE + (uint64_t)(what - guest_code), .rflags = 2 };
}

const char *run_vm(const struct vm *vm, struct kvm_regs *regs)
{
	struct kvm_run *const kvm_exit = vm->run;

	if (ioctl(vm->cpu, KVM_SET_REGS, regs))
		cannot("set the virtual CPU's registers");
	if (ioctl(vm->cpu, KVM_RUN, 0))
		return errno_name(errno);
	switch (kvm_exit->exit_reason) {
	case KVM_EXIT_IO:
		if (kvm_exit->io.port != DONE_PORT || ioctl(vm->cpu, KVM_GET_REGS, regs))
			return "port";
		return "ok";
	case KVM_EXIT_MMIO:	/* an access begun ends, but not one more begins */
		memset(kvm_exit->mmio.data, 0, sizeof(kvm_exit->mmio.data));
		kvm_exit->immediate_exit = 1;
		ioctl(vm->cpu, KVM_RUN, 0);
		kvm_exit->immediate_exit = 0;
		return "device";
	case KVM_EXIT_INTERNAL_ERROR:
		return kvm_exit->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? "emulation" : "internal";
	case KVM_EXIT_SHUTDOWN:
		return "shutdown";
	default:
		return "exit";
	}
}

void add_call(struct text *reply, const struct vm *vm, uint64_t number, uint64_t a0, uint64_t a1)
{
	struct kvm_regs regs = job(call_kvm);

	regs.rax = number;
	regs.rbx = a0;
	regs.rcx = a1;
	const char *const end = run_vm(vm, &regs);

	if (strcmp(end, "ok"))
		text_add(reply, "\"%s\"", end);
	else
		text_add(reply, "%d", (int32_t)regs.rax);
}

const char *guest_fill_result(const struct vm *vm, uint64_t gpa, uint32_t word, bool emulated)
{
	struct kvm_regs regs = job(emulated ? fill_emulated : fill);

	regs.rdi = gpa;
	regs.rax = word;
	return run_vm(vm, &regs);
}

/* What the guest finds in one of its pages. */
const char *guest_look_result(const struct vm *vm, uint64_t gpa, bool emulated)
{
	static char text[16];
	struct kvm_regs regs = job(emulated ? look_emulated : look);

	regs.rdi = gpa;
	const char *const end = run_vm(vm, &regs);

	if (strcmp(end, "ok"))
		return end;
	if (regs.rbx || ((uint32_t)regs.rax && ((uint32_t)regs.rax & ~NUMBER) != MARK))
		return "other";
	snprintf(text, sizeof(text), "%u", (uint32_t)regs.rax & NUMBER);
	return text;
}

void leave_vm(const struct vm *vm)
{
	if (!vm->fd)
		return;
	munmap(vm->run, (size_t)ioctl(kvm_file, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(vm->cpu);
	close(vm->fd);
}
