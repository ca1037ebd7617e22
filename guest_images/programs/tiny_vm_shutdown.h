/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private registers when a processor shuts down by a triple fault: the VMM decides when it runs again. */
#ifndef TINY_VM_SHUTDOWN_H
#define TINY_VM_SHUTDOWN_H

#include "tiny_vm_reset.h"

#define SECRET_WORD ((uint32_t)SECRET)
#define SHUTDOWN_TELLS 0x38ull	/* as TELL_SECRET: INIT leaves vector registers as they are */
#define EMPTY_TABLE 0x14000u	/* in reach of real mode */
#define NO_EXIT (1ull << 32)	/* more than the 32 bits that the VMM's code hands over; KVM_RUN failed with that errno */
#define OTHER_EXIT (2ull << 32)	/* KVM_RUN came back for that other reason */

/* What the host side is asked. */
enum { RUN_TO_SHUTDOWN = 0xb000, RUN_AFTER_SHUTDOWN, RUN_SECOND_AGAIN, RUN_FIRST_AFTER_INIT };

static GUEST void keep_a_secret(void)
{
	*(volatile uint32_t *)(uint64_t)STORED_AT = SECRET_WORD;
}

/* The VMM has reset the machine, and started this one. */
static GUEST void next_guest_finds_nothing(void)
{
	const volatile uint64_t *const words = (uint64_t *)(uint64_t)RANGE_AT;
	uint64_t old = 0;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		old += words[i] == OLD_WORD;
	tell("words of the guest before, for the next", way == PLAIN ? PAGE / 8 : 0, old);
}

/* The host side tells what the VMM has of it; the next guest goes on here. */
static GUEST void processor_shuts_down(void)
{
	static const struct segment_descriptor_table none;

	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		keep_a_secret();
		asm volatile("movq %[secret], %%xmm5\n\tlidt %[none]\n\tint3"
			     : : [secret] "r"(SECRET), [none] "m"(none));	/* nobody comes back */
	}
	next_guest_finds_nothing();
}

extern const unsigned char init_code[], init_end[];
/* In real mode only model-specific registers lead to the APIC. */
asm(".text\n"
    ".code16\n"
    "init_code:\n"
    "	mov $0x1b, %ecx\n"	/* MSR_APIC_BASE */
    "	rdmsr\n"
    "	or $0x400, %eax\n"	/* x2APIC */
    "	wrmsr\n"
    "	mov $0x830, %ecx\n"
    "	mov $0x4500, %eax\n"	/* DELIVER_INIT, to processor 0 */
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	out %al, $0xe5\n"	/* PORT_SECOND */
    "	hlt\n"
    "init_end:\n"
    ".code64\n");

/* The same after an INIT, which the guest itself has sent to its first processor. */
static GUEST void first_gets_init(void)
{
	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		keep_a_secret();
		start_second_at(init_code, init_end);
		service(RUN_FIRST_AFTER_INIT);	/* nobody comes back */
	}
	next_guest_finds_nothing();
}

extern const unsigned char fatal_code[], fatal_end[];
/* Paging by tables that have nothing leads to no handler either. */
asm(".text\n"
    ".code16\n"
    "fatal_code:\n"
    "	mov $0x14000, %eax\n"	/* EMPTY_TABLE */
    "	mov %eax, %cr3\n"
    "	mov %cr0, %eax\n"
    "	or $0x80000001, %eax\n"	/* PG, PE */
    "	mov %eax, %cr0\n"
    "	hlt\n"
    "fatal_end:\n"
    ".code64\n");

static GUEST void second_shuts_down(void)
{
	keep_a_secret();
	fill_pages(EMPTY_TABLE, 1, 0);
	start_second_at(fatal_code, fatal_end);
	tell("the second processor shuts down", 1, service(RUN_TO_SHUTDOWN));
	tell("what the VMM's code has of the guest's memory when KVM_RUN goes on", way == PLAIN ? SECRET_WORD : 0,
	     service(RUN_AFTER_SHUTDOWN));
	start_second();
	tell("the second processor runs where the guest starts it again", 1, service(RUN_SECOND_AGAIN));
}

#endif
