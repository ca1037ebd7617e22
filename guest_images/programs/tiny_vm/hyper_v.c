// SPDX-License-Identifier: GPL-2.0-or-later
/* A guest of Hyper-V's interface, and one that is nested in it. */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "hyper_v.h"
#include "exits.h"
#include "nested.h"
#include "ranges.h"
#include "refusals.h"
#include "second.h"

#define HYPER_V_GUEST 0x40000000u	/* a register: which operating system the guest is, any but none */
#define HYPER_V_ASSIST 0x40000073u	/* and where it has a page that Hyper-V reads */
#define IS_ON 1u
#define DIRECT_CALLS_AT 32u		/* in that page */
#define VM_ENLIGHTENED 0x3e0u		/* in a control block */

/* What the host side is asked. */
enum { BE_HYPER_V = 0x4100, RUN_FOR_HYPER_V };

extern const unsigned char hyper_code[], hyper_call[], hyper_end[];

/* In protected mode, as Hyper-V wants it: HVCALL_SIGNAL_EVENT, with its argument in registers. */
asm(".text\n"
    ".code16\n"
    "hyper_code:\n"
    "	mov %cr0, %eax\n"
    "	or $1, %eax\n"
    "	mov %eax, %cr0\n"
    "	mov $0x1005d, %eax\n"
    "	xor %edx, %edx\n"
    "	mov $0x5ec2, %ebx\n"		/* SECRET in two halves */
    "	mov $0xe7c0ffee, %ecx\n"
    "hyper_call:\n"
    "	vmmcall\n"
    "	out %al, $0xe5\n"		/* PORT_SECOND */
    "	hlt\n"
    "hyper_end:\n"
    ".code64\n");

static GUEST void have_hyper_v_and_enable(void)
{
	service(BE_HYPER_V);
	enable_with_registers();
}

/* The VMM says to one processor that it is Hyper-V's, whose hypercalls it wants to have. */
static GUEST void hypercall_is_not_hyper_vs(void)
{
	if (way == PLAIN)
		service(BE_HYPER_V);
	start_second_at(hyper_code, hyper_end);
	fit_hypercall((START_VECTOR << 12) + (uint64_t)(hyper_call - hyper_code));
	tell("exits that tell the secret, by a hypercall of Hyper-V's", way == PLAIN, service(RUN_FOR_HYPER_V));
}

extern const unsigned char nested_shares[];

/* The nested guest's request to share 2 pages, of which rdi has the number; 2 is a hypercall of Hyper-V's as well. */
asm(".text\n"
    "nested_shares:\n"
    "	mov $14, %eax\n"		/* HC_SHARE */
    "	mov %rdi, %rbx\n"
    "	mov $2, %ecx\n"
    "	xor %edx, %edx\n"
    "	vmmcall\n"
    "	mov %rax, %rbx\n"
    "	out %al, $0x99\n");

/*
 * A hypervisor that is Hyper-V's guest may have hypercalls of its own guests carried out by Hyper-V. A request of such a
 * guest to KVM is about the hypervisor's memory, and must not be carried out.
 */
static GUEST void nested_guest_shares_nothing(void)
{
	const uint64_t assist = RANGE_AT + 16 * PAGE;

	fill_pages(RANGE_AT, 2, OLD_WORD);
	fill_pages(assist, 1, 0);
	*(volatile uint32_t *)(assist + DIRECT_CALLS_AT) = 1;
	change(HC_SHARE, assist, 1);
	*(volatile uint32_t *)(assist + DIRECT_CALLS_AT) = 1;
	write_msr(HYPER_V_GUEST, 1);
	write_msr(HYPER_V_ASSIST, assist | IS_ON);
	prepare_nested();
	*in_control(VM_ENLIGHTENED) = 1;
	*in_control(VM_RIP) = (uint64_t)nested_shares;
	const uint64_t result = run_nested((uint64_t)table(CONTROL), RANGE_AT / PAGE);

	tell("exit of the nested guest, by a port behind its hypercall", EXIT_IO, *in_control(VM_EXIT_CODE));
	if (way != PLAIN)
		tell("what the nested guest is told", NO_RIGHT, result);
	tell("pages of the hypervisor: reached", way == PLAIN ? EACH(2) : 0, reached(RANGE_AT, 2));
	tell("pages of the hypervisor, whole", 2, whole_pages(RANGE_AT, 2, OLD_WORD));
}

/* The second processor is told that it is Hyper-V's, and the VMM may have its hypercalls. */
static void be_hyper_v(const struct vm *vm)
{
	const struct vm second = { .cpu = vm->second };
	const struct kvm_enable_cap messages = { .cap = KVM_CAP_HYPERV_SYNIC };
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(vm->second, KVM_GET_CPUID2, table))
		cannot("ask for a virtual CPU's CPUID");
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == CPUID_INTERFACE)
			table->entries[i].eax = IS_HYPER_V;
	}
	if (ioctl(vm->second, KVM_SET_CPUID2, table) || ioctl(vm->second, KVM_ENABLE_CAP, &messages))
		cannot("have a processor of Hyper-V's");
	free(table);
	give_address(&second, HYPER_V_GUEST, 1);
}

/* Whether it tells the VMM the secret by an exit, and does not just come to its port. */
static uint64_t run_for_hyper_v(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const uint64_t secret = SECRET;

	if (!run_a_while(vm->second))
		cannot("run a processor of Hyper-V's");
	if (vm->second_run->exit_reason == KVM_EXIT_HYPERV)
		return size > 0 && memmem(vm->second_run, (size_t)size, &secret, sizeof(secret));
	if (vm->second_run->exit_reason != KVM_EXIT_IO || vm->second_run->io.port != PORT_SECOND)
		wrong_exit(vm, "the second processor: exit", vm->second_run->exit_reason);
	return 0;
}

static uint64_t serve_hyper_v(struct vm *vm, uint32_t what)
{
	switch (what) {
	case BE_HYPER_V:
		be_hyper_v(vm);
		return 0;
	case RUN_FOR_HYPER_V:
		return run_for_hyper_v(vm);
	default:
		return serve_second(vm, what);
	}
}

const struct row hyper_v_rows[] = {
	{ "nested-shares", nested_guest_shares_nothing, .operands = NULL, .serve = serve_ranges,
	  .first = enable_with_registers, .hyper_v = true },
	{ "hyper-v", hypercall_is_not_hyper_vs, .operands = NULL, .serve = serve_hyper_v, .first = have_hyper_v_and_enable,
	  .second = true },
	{ .name = NULL },
};
