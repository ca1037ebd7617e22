/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VMM that interrupts its guest past the local APIC, that ends an interrupt in the guest's place, or that has the local
 * APIC elsewhere. A guest tells by the registers of its APIC what comes from outside.
 */
#ifndef TINY_VM_INTERRUPTS_H
#define TINY_VM_INTERRUPTS_H

#include "tiny_vm_exchanges.h"
#include "tiny_vm_refusals.h"

/* In what guest and VMM share, behind the report: which interrupt is taken, for which the VMM has acted; KVM's bit. */
#define TAKEN_AT (2 * PAGE)
#define ACTED_AT (2 * PAGE + 8)
#define ENDED_AT (3 * PAGE)
_Static_assert(sizeof(struct report) <= TAKEN_AT, "the report ends before");
_Static_assert(TAKEN_AT == 0x2000 && ACTED_AT == 0x2008, "ended_entry has these");

#define APIC_MOVED 0xfed40000u	/* where nobody looks for it */
#define APIC_ENABLED 0x800u	/* of MSR_APIC_BASE */
#define APIC_BOOTS 0x100u
#define ANSWERED 0x5au		/* by the VMM, for the APIC */

/* arch/x86/include/asm/hyperv-tlfs.h */
#define HV_SINT0 0x40000090u
#define HV_AUTO_EOI (1u << 17)

/* What the host side is asked. */
enum { INTERRUPT = 0xa000, STORE_ALL_ALONG, END_BY_ITSELF, INTERRUPT_BY_PIC, SEND_EARLY, SEND_LATE, HIDE_APIC,
       INTERRUPT_BY_IOCTL };

/* Of exceptions: a hypervisor's, and that of security. */
#define EARLY_VECTOR 28
#define LATE_VECTOR 30

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

static GUEST void be_sent_one_and_enable(void)
{
	use_x2apic();
	service(SEND_EARLY);
	enable_with_registers();
}

/* The handler of an exception that has an error code would take a word of the stack for that. */
static GUEST void no_interrupt_has_an_exceptions_vector(void)
{
	use_x2apic();
	set_gate(EARLY_VECTOR, counted_entry, 0);
	set_gate(LATE_VECTOR, counted_entry, 0);
	if (way == PLAIN)
		service(SEND_EARLY);
	take_interrupts();
	tell("interrupts with an exception's vector, from before the request", way == PLAIN, irq_count);
	service(SEND_LATE);
	take_interrupts();
	tell("interrupts with an exception's vector", way == PLAIN ? 2 : 0, irq_count);
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

/* Memory of the VMM's at the address of the local APIC; what KVM says to that. */
static GUEST void ask_with_apic_hidden(void)
{
	tell("what KVM says to memory in the place of the local APIC", 0, service(HIDE_APIC));
	tell("ENABLE with registers where memory is in the place of the local APIC", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

static GUEST void apic_is_memory(void)
{
	if (way == PLAIN)
		service(HIDE_APIC);
	tell("the task priority, which is memory", ANSWERED, *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

static GUEST void apic_stays_kvms(void)
{
	tell("what KVM says to memory in the place of the local APIC", way == PLAIN ? 0 : 22, service(HIDE_APIC));
	tell("the task priority", way == PLAIN ? ANSWERED : 0, *(volatile uint32_t *)(uint64_t)TASK_PRIORITY);
}

#endif
