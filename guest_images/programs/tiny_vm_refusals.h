/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What KVM must not do for a VMM: protect memory that is not its guest's alone, or tell and take private registers. */
#ifndef TINY_VM_REFUSALS_H
#define TINY_VM_REFUSALS_H

#include "tiny_vm_ranges.h"

#define NO_MEMORY_THERE ((uint64_t)-14)	/* KVM_EFAULT */
#define NOT_OF_THAT_KIND ((uint64_t)-95)	/* KVM_EOPNOTSUPP */
#define PRIVATE_REGISTERS 1		/* KVM_MEM_PROTECTED_STATE */
#define TASK_PRIORITY (APIC + 0x80)
#define FEW_BYTES 65536u		/* that the VMM may lock: less than KVM takes at a time */

/* What the host side is asked. */
enum { TAKE_AWAY = 0x2000, LOWER_LIMIT, RAISE_LIMIT, ADD_KIND = 0x2100 };
enum { ASK_STATE = 0x3000, SET_STATE, ASK_WRONGLY, ASK_RUN,
       COUNT_PORT_DATA = 0x7a5b3c4d };	/* none of the four bytes of the last is 0 */

/* Memory of a slot that cannot be the guest's alone, and what KVM says of it. */
enum kind { HOLE, HOLE_AT_END, UNWRITABLE, UNWRITABLE_AT_END, SHARED_BY_FORK, OF_A_FILE, GROWS, DROPPABLE, MOVED, WATCHED,
	    SEALED, KINDS };

static const struct {
	const char *asked, *kept, *later;
	uint64_t answer;
} kinds[KINDS] = {
#define KIND(what) "ENABLE with " what, "ENABLE with " what ": reached afterwards", "a new slot of " what
	[HOLE] = { KIND("a hole in the VMM's memory"), NO_MEMORY_THERE },
	[HOLE_AT_END] = { KIND("memory that ends before its slot"), NO_MEMORY_THERE },
	[UNWRITABLE] = { KIND("memory that the VMM may not write"), NOT_OF_THAT_KIND },
	[UNWRITABLE_AT_END] = { KIND("memory whose last page the VMM may not write"), NOT_OF_THAT_KIND },
	[SHARED_BY_FORK] = { KIND("memory that children of the VMM share"), NOT_OF_THAT_KIND },
	[OF_A_FILE] = { KIND("a private mapping of a file"), NOT_OF_THAT_KIND },
	[GROWS] = { KIND("memory that grows like a stack"), NOT_OF_THAT_KIND },
	[DROPPABLE] = { KIND("memory that the kernel may drop"), NOT_OF_THAT_KIND },
	[MOVED] = { KIND("memory that the VMM has moved"), NOT_OF_THAT_KIND },
	[WATCHED] = { KIND("memory with a userfaultfd"), IS_BUSY },
	[SEALED] = { KIND("memory that the VMM has sealed"), NO_RIGHT },
};

/* A request that is to be refused. If it is not, the VMM must still be able to tell. */
static GUEST uint64_t ask_in_vain(void)
{
	const uint64_t result = hypercall(HC_ENABLE, 0, 0);

	if (!result)
		share(&shared, sizeof(shared) / PAGE);
	return result;
}

/* In place of the first request for protection: each of these kinds stands in its way, and then it is gone. */
static GUEST void ask_with_each_kind(void)
{
	fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		service(ADD_KIND + kind);
		tell(kinds[kind].asked, kinds[kind].answer, ask_in_vain());
		tell(kinds[kind].kept, EACH(FAIL_PAGES), reached(RANGE_AT, FAIL_PAGES));
		service(TAKE_AWAY);
	}
}

static GUEST void kinds_are_refused(void)
{
	if (way == PLAIN)
		fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		tell(kinds[kind].later, way == PLAIN ? 0 : -kinds[kind].answer, service(ADD_KIND + kind));
		service(TAKE_AWAY);
	}
	tell("reached in the end", way == PLAIN ? EACH(FAIL_PAGES) : 0, reached(RANGE_AT, FAIL_PAGES));
	tell("whole in the end", FAIL_PAGES, whole_pages(RANGE_AT, FAIL_PAGES, OLD_WORD));
}

/* The same for a VMM that may lock next to nothing. */
static GUEST void ask_beyond_limit(void)
{
	fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	service(LOWER_LIMIT);
	tell("ENABLE with next to nothing to lock", NO_MEMORY, ask_in_vain());
	tell("ENABLE with next to nothing to lock: reached afterwards", EACH(FAIL_PAGES), reached(RANGE_AT, FAIL_PAGES));
	service(RAISE_LIMIT);
}

static GUEST void limit_is_heeded(void)
{
	if (way == PLAIN) {	/* the control: what takes no locked memory needs no limit */
		service(LOWER_LIMIT);
		fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	}
	tell("reached in the end", way == PLAIN ? EACH(FAIL_PAGES) : 0, reached(RANGE_AT, FAIL_PAGES));
	tell("whole in the end", FAIL_PAGES, whole_pages(RANGE_AT, FAIL_PAGES, OLD_WORD));
}

/* --- registers ---------------------------------------------------------------------------------------------------- */

#define SECRET 0x00005ec2e7c0ffeeull	/* an address, as MSRs want one */
#define OTHER 0x0000123456789abcull
#define OTHER_PRIORITY 0x20u
#define LEFT_PRIORITY 5u	/* as CR8 has it */
#define MSR_LSTAR 0xc0000082u
#define TELL_SECRET 0x2bfull		/* of the ioctls in that order, those that tell one of them; a bit each */

/*
 * Model-specific registers that take any address: STAR, LSTAR, CSTAR, SYSENTER's stack and code, the other base of GS;
 * and those of 32 bits: the flags that SYSCALL clears, and what RDTSCP tells.
 */
static const uint32_t secret_msrs[] = { 0xc0000081, MSR_LSTAR, 0xc0000083, 0x175, 0x176, 0xc0000102, 0xc0000084,
				       0xc0000103 };
#define SECRET_MSRS (sizeof(secret_msrs) / sizeof(*secret_msrs))
#define WIDE_MSRS 6u

/* Registers that hold the secret when the host side is asked, and what they hold afterwards. */
struct kept {
	uint64_t general, vector, debug, control;
	uint64_t specific;	/* registers that have it still */
};

static GUEST uint64_t service_with_secrets(uint32_t what, struct kept *kept)
{
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		write_msr(secret_msrs[i], i < WIDE_MSRS ? SECRET : (uint32_t)SECRET);
	asm volatile("mov %[secret], %%r15\n\tmovq %[secret], %%xmm5\n\tmov %[secret], %%dr0\n\tmov %[secret], %%cr2\n\t"
		     "outl %%eax, %[port]\n\t"
		     "mov %%r15, %[general]\n\tmovq %%xmm5, %[vector]\n\tmov %%dr0, %[debug]\n\tmov %%cr2, %[control]"
		     : [general] "=&r"(kept->general), [vector] "=&r"(kept->vector), [debug] "=&r"(kept->debug),
		       [control] "=&r"(kept->control)
		     : "a"(what), [secret] "r"(SECRET), [port] "N"(PORT_SERVICE) : "r15", "memory");
	kept->specific = 0;
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		kept->specific += (uint32_t)read_msr(secret_msrs[i]) == (uint32_t)SECRET;
	return *(volatile uint64_t *)&shared.report.answer;
}

static GUEST void enable_with_registers(void)
{
	tell("ENABLE with registers", 0, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* With interrupts on and a task priority. Return: that, and in bit 8 whether they are on, as struct kvm_run has it. */
static GUEST uint64_t ask_what_a_run_leaves(void)
{
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = LEFT_PRIORITY << 4;
	asm volatile("sti\n\toutl %%eax, %1\n\tcli" : : "a"(ASK_RUN), "N"(PORT_SERVICE) : "memory");
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = 0;
	return *(volatile uint64_t *)&shared.report.answer;
}

static GUEST void registers_are_not_told(void)
{
	const volatile uint32_t *const task_priority = (uint32_t *)(uint64_t)TASK_PRIORITY;
	struct kept kept;

	tell("interrupts are on, and the task priority, by what KVM_RUN leaves", way == PLAIN ? 0x100 | LEFT_PRIORITY : 0,
	     ask_what_a_run_leaves());
	tell("the local APIC's task priority", 0, *task_priority);
	tell("ioctls that tell a secret, or fail", way == PLAIN ? TELL_SECRET : 0, service_with_secrets(ASK_STATE, &kept));
	tell("ioctls that do not take what the VMM sets", 0, service_with_secrets(SET_STATE, &kept));
	tell("a general register, set by the VMM", way == PLAIN ? OTHER : SECRET, kept.general);
	tell("a vector register", SECRET, kept.vector);
	tell("a debug register", SECRET, kept.debug);
	tell("a control register", SECRET, kept.control);
	tell("model-specific registers", SECRET_MSRS, kept.specific);
	tell("the local APIC's task priority, set by the VMM", way == PLAIN ? OTHER_PRIORITY : 0, *task_priority);
	tell("ioctls that answer a wrong question otherwise", 0, service_with_secrets(ASK_WRONGLY, &kept));
	tell("a general register afterwards", SECRET, kept.general);
}

/* As firmware does that protects its memory alone; the operating system asks for more, and must not get a yes for it. */
static GUEST void enable_without_registers(void)
{
	tell("ENABLE without registers", 0, hypercall(HC_ENABLE, 0, 0));
	share(&shared, sizeof(shared) / PAGE);
	tell("ENABLE with registers, later", NO_RIGHT, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* A request for private registers that is refused for the memory's sake: the registers are the VMM's as before. */
static GUEST void ask_for_registers_in_vain(void)
{
	struct kept kept;

	service(ADD_KIND + WATCHED);
	tell("ENABLE with registers and with memory with a userfaultfd", IS_BUSY, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
	service(TAKE_AWAY);
	tell("ioctls that tell a secret after that, or fail", TELL_SECRET, service_with_secrets(ASK_STATE, &kept));
}

/* What the guest tells a port is gone from the page that the VMM shares with KVM when the VMM has served it. */
static GUEST void port_data_is_cleared(void)
{
	tell("bytes of what the guest told a port that are there when it was served", way == PLAIN ? 4 : 0,
	     service(COUNT_PORT_DATA));
}

static GUEST void registers_are_private_at_first_or_not(void)
{
	struct kept kept;

	tell("ioctls that tell a secret, or fail", TELL_SECRET, service_with_secrets(ASK_STATE, &kept));
}

#endif
