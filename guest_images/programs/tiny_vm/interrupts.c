// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VMM that interrupts its guest past the local APIC, that ends an interrupt in the guest's place, or that has the local
 * APIC elsewhere. A guest tells by the registers of its APIC what comes from outside.
 */
#include <sys/ioctl.h>

#include "interrupts.h"
#include "exchanges.h"
#include "paravirt.h"
#include "ranges.h"
#include "refusals.h"
#include "reset.h"
#include "second.h"
#include "waits.h"

/* In what guest and VMM share, behind the report: which interrupt is taken, for which the VMM has acted; KVM's bit. */
#define TAKEN_AT (2 * PAGE)
#define ACTED_AT (2 * PAGE + 8)
#define ENDED_AT (3 * PAGE)

_Static_assert(sizeof(struct report) <= TAKEN_AT, "the report ends before");

_Static_assert(TAKEN_AT == 0x2000 && ACTED_AT == 0x2008, "ended_entry has these");

#define APIC_MOVED 0xfed40000u	/* where nobody looks for it */
#define ANSWERED 0x5au		/* by the VMM, for the APIC */

/* arch/x86/include/asm/hyperv-tlfs.h */
#define HV_SINT0 0x40000090u
#define HV_AUTO_EOI (1u << 17)

/* What the host side is asked. */
enum { INTERRUPT = 0xa000, STORE_ALL_ALONG, END_BY_ITSELF, INTERRUPT_BY_PIC, SEND_BOTH, HIDE_APIC, HIDE_MANAGED_APIC,
       INTERRUPT_BY_IOCTL };

/* Of exceptions' vectors the first and the last that an APIC delivers. */
#define FIRST_VECTOR 16
#define LAST_VECTOR 31

/*
 * Looks whether the interrupt is in service, when the VMM has acted and with no exit before: bit 0 of the fifth register
 * of those (0x814) is that of vector 0x80. Then it is ended by the APIC.
 */
extern volatile uint64_t irq_ended;
extern const unsigned char ended_entry[];

asm(".text\n"
    "ended_entry:\n"
    "	push %rax\n	push %rcx\n	push %rdx\n"
    "	incq irq_count\n"
    "	mov irq_count, %rax\n"
    "	mov %rax, shared + 0x2000\n"	/* TAKEN_AT */
    "1:	cmp %rax, shared + 0x2008\n"	/* ACTED_AT */
    "	jb 1b\n"
    "	mov $0x814, %ecx\n"
    "	rdmsr\n"
    "	not %eax\n"
    "	and $1, %eax\n"
    "	add %rax, irq_ended\n"
    "	mov $0x80b, %ecx\n"		/* X2APIC_EOI */
    "	xor %eax, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	pop %rdx\n	pop %rcx\n	pop %rax\n"
    "	iretq\n");

volatile uint64_t irq_ended;

static GUEST void take_messages(void)
{
	use_x2apic();
	set_gate(UPCALL_VECTOR, ended_entry, 0);
	for (int i = 0; i < INTERRUPTS; i++) {
		service(INTERRUPT);
		take_interrupts();
	}
	tell("interrupts taken", INTERRUPTS, irq_count);
	tell("some were not in service while the guest handled them", way == PLAIN, irq_ended > 0);
}

/* KVM lets a bit in memory tell the end of an interrupt, if the guest wants that. */
static GUEST void take_messages_with_a_bit(uint32_t what)
{
	write_msr(MSR_PV_EOI, (uint64_t)(shared.bytes + ENDED_AT) | 1);
	service(what);
	take_messages();
	write_msr(MSR_PV_EOI, 0);
}

/* The host tick may come between KVM's store and the VMM's: so not every interrupt is ended. */
static GUEST void no_store_ends_an_interrupt(void)
{
	take_messages_with_a_bit(STORE_ALL_ALONG);
}

static GUEST void let_end_and_enable(void)
{
	service(END_BY_ITSELF);
	enable_with_registers();
}

/* Hyper-V's controller has vectors that are never in service. */
static GUEST void no_interrupt_ends_by_itself(void)
{
	if (way == PLAIN)
		service(END_BY_ITSELF);
	*(volatile uint64_t *)(shared.bytes + ACTED_AT) = INTERRUPTS;	/* nobody acts */
	take_messages();
}

/* The entry of the APIC's table for such interrupts is open, as a reset leaves it. */
static GUEST void interrupt_past_the_apic(uint32_t what)
{
	set_gate(UPCALL_VECTOR, upcall_entry, 0);
	service(what);
	take_interrupts();
	tell("interrupts of the VMM's, past the local APIC", way == PLAIN, irq_count);
}

static GUEST void no_interrupt_of_the_pic_comes(void)
{
	interrupt_past_the_apic(INTERRUPT_BY_PIC);
}

static GUEST void no_interrupt_by_ioctl_comes(void)
{
	interrupt_past_the_apic(INTERRUPT_BY_IOCTL);
}

extern const unsigned char counted_entry[];

asm(".text\n"
    "counted_entry:\n"
    "	push %rax\n	push %rcx\n	push %rdx\n"
    "	incq irq_count\n"
    "	mov $0x80b, %ecx\n"		/* X2APIC_EOI */
    "	xor %eax, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	pop %rdx\n	pop %rcx\n	pop %rax\n"
    "	iretq\n");

static GUEST void be_sent_both_and_enable(void)
{
	use_x2apic();
	service(SEND_BOTH);
	enable_with_registers();
}

/* The handler of an exception that has an error code would take a word of the stack for that. */
static GUEST void no_interrupt_has_an_exceptions_vector(void)
{
	use_x2apic();
	set_gate(FIRST_VECTOR, counted_entry, 0);
	set_gate(LAST_VECTOR, counted_entry, 0);
	if (way == PLAIN)
		service(SEND_BOTH);
	take_interrupts();
	tell("interrupts with exceptions' vectors, from before the request", way == PLAIN ? 2 : 0, irq_count);
	service(SEND_BOTH);
	take_interrupts();
	tell("interrupts with exceptions' vectors", way == PLAIN ? 4 : 0, irq_count);
}

static GUEST void ask_with_apic_elsewhere(void)
{
	tell("ENABLE with registers where the local APIC is elsewhere, or off", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* Without private registers the VMM may have it there; what it answers is no secret of anybody's. */
static GUEST void apic_is_the_vmms(void)
{
	tell("the task priority, which the VMM answers for the local APIC", ANSWERED,
	     *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

static GUEST void apic_does_not_answer(void)
{
	tell("the task priority of a local APIC that is off", 0xffffffff, *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

/*
 * Intel's processor has a page of KVM's there by which it finds accesses to its APIC, in a slot of KVM's own
 * (arch/x86/kvm/lapic.c kvm_alloc_apic_access_page()): KVM refuses another one, whoever asks (EEXIST).
 */
#define SLOT_IS_THERE 17

/* Memory of the VMM's at the address of the local APIC; what KVM says to that. */
static GUEST void ask_with_apic_hidden(void)
{
	const bool hidden = has_svm();

	tell("what KVM says to memory in the place of the local APIC", hidden ? 0 : SLOT_IS_THERE, service(HIDE_APIC));
	tell("ENABLE with registers where memory is in the place of the local APIC", hidden ? NO_RIGHT : 0,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* The same in system management mode alone, which is the VMM's firmware: it would take that memory for the APIC. */
static GUEST void ask_with_apic_hidden_in_management(void)
{
	const bool hidden = has_svm();

	tell("what KVM says to memory in the place of the local APIC in system management mode", hidden ? 0 : SLOT_IS_THERE,
	     service(HIDE_MANAGED_APIC));
	tell("ENABLE with registers where memory is in the place of the local APIC in system management mode",
	     hidden ? NO_RIGHT : 0, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

static GUEST void apic_is_memory(void)
{
	if (way == PLAIN)
		service(HIDE_APIC);
	tell("the task priority, which is memory", has_svm() ? ANSWERED : 0, *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

static GUEST void apic_stays_kvms(void)
{
	const bool hidden = has_svm() && way == PLAIN;

	tell("what KVM says to memory in the place of the local APIC", hidden ? 0 : has_svm() ? 22 : SLOT_IS_THERE,
	     service(HIDE_APIC));
	tell("the task priority", hidden ? ANSWERED : 0, *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

static struct {
	unsigned char *bit;	/* KVM's */
} ender;

/* Acts for each interrupt, while the guest waits for that without an exit. */
static void *end_interrupts(void *of)
{
	const struct vm *const vm = of;
	const volatile uint64_t *const taken = at(vm, shared.bytes + TAKEN_AT);
	volatile uint64_t *const acted = at(vm, shared.bytes + ACTED_AT);

	for (;;) {
		const uint64_t next = *taken;

		*(volatile unsigned char *)ender.bit = 0;
		*acted = next;
	}
	return NULL;
}

static void let_end_by_itself(const struct vm *vm)
{
	const struct kvm_enable_cap hyper_v = { .cap = KVM_CAP_HYPERV_SYNIC2 };

	if (ioctl(vm->cpu, KVM_ENABLE_CAP, &hyper_v))
		cannot("have Hyper-V's interrupt controller");
	give_address(vm, HV_SINT0, UPCALL_VECTOR | HV_AUTO_EOI);
}

/* By the line that has the first of its vectors. */
static void interrupt_by_pic(const struct vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	const struct kvm_irq_level line = { .irq = 0, .level = 1 };

	if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
		cannot("read the PIC");
	chip.chip.pic.irq_base = UPCALL_VECTOR;
	chip.chip.pic.imr = 0;
	if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) || ioctl(vm->fd, KVM_IRQ_LINE, &line))
		cannot("interrupt by the PIC");
}

/*
 * Memory that answers for the local APIC: the page in its place alone, or if KVM does not take that, with the page
 * before it. The errno, or 0.
 */
static uint64_t hide_apic(const struct vm *vm, uint32_t space)
{
	unsigned char *const pages = map(2 * PAGE);
	struct kvm_userspace_memory_region region = {
		.slot = space << 16 | 5, .guest_phys_addr = APIC, .memory_size = PAGE, .userspace_addr = (uintptr_t)pages + PAGE,
	};

	pages[PAGE + TASK_PRIORITY - APIC] = ANSWERED;
	if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		return 0;
	region.guest_phys_addr -= PAGE;
	region.memory_size += PAGE;
	region.userspace_addr -= PAGE;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
}

static uint64_t serve_interrupts(struct vm *vm, uint32_t what)
{
	const struct kvm_interrupt interrupt = { UPCALL_VECTOR };

	switch (what) {
	case INTERRUPT:
		send_message(vm, 0, UPCALL_VECTOR);
		return 0;
	case STORE_ALL_ALONG:
		ender.bit = at(vm, shared.bytes + ENDED_AT);
		start_beside(end_interrupts, vm);
		return 0;
	case END_BY_ITSELF:
		let_end_by_itself(vm);
		return 0;
	case INTERRUPT_BY_PIC:
		interrupt_by_pic(vm);
		return 0;
	case SEND_BOTH:
		send_message(vm, 0, FIRST_VECTOR);
		send_message(vm, 0, LAST_VECTOR);
		return 0;
	case HIDE_APIC:
		return hide_apic(vm, 0);
	case HIDE_MANAGED_APIC:
		return hide_apic(vm, MANAGED_SPACE);
	default:
		if (ioctl(vm->cpu, KVM_INTERRUPT, &interrupt))
			cannot("interrupt the virtual CPU");
		return 0;
	}
}

/* What the guest loads where it looks for its local APIC comes to the VMM. */
static uint64_t serve_apic(struct vm *vm, uint32_t what)
{
	const uint32_t answer = ANSWERED;

	if (what == LOADED)
		memcpy(vm->run->mmio.data, &answer, sizeof(answer));
	return 0;
}

const struct row interrupts_rows[] = {
	{ "apic-elsewhere", apic_is_the_vmms, .operands = operands, .pages = 1, .serve = serve_apic,
	  .first = ask_with_apic_elsewhere, .apic_base = APIC_MOVED | APIC_ENABLED | APIC_BOOTS, .device = TASK_PRIORITY },
	{ "apic-hidden", apic_is_memory, .operands = operands, .pages = 1, .serve = serve_interrupts,
	  .first = ask_with_apic_hidden },
	{ "apic-managed", nothing_more, .operands = operands, .pages = 1, .serve = serve_interrupts,
	  .first = ask_with_apic_hidden_in_management },
	{ "apic-stays", apic_stays_kvms, .operands = NULL, .serve = serve_interrupts, .first = enable_with_registers },
	{ "apic-off", apic_does_not_answer, .operands = operands, .pages = 1, .first = ask_with_apic_elsewhere,
	  .apic_base = APIC | APIC_BOOTS },
	{ "by-pic", no_interrupt_of_the_pic_comes, .operands = NULL, .serve = serve_interrupts,
	  .first = enable_with_registers },
	{ "by-ioctl", no_interrupt_by_ioctl_comes, .operands = NULL, .serve = serve_interrupts,
	  .first = enable_with_registers, .split = true },
	{ "exceptions-vector", no_interrupt_has_an_exceptions_vector, .operands = NULL, .serve = serve_interrupts,
	  .first = be_sent_both_and_enable },
	{ "ended", no_store_ends_an_interrupt, .operands = NULL, .serve = serve_interrupts, .first = enable_with_registers },
	{ "auto-ended", no_interrupt_ends_by_itself, .operands = NULL, .serve = serve_interrupts, .first = let_end_and_enable },
	{ .name = NULL },
};
