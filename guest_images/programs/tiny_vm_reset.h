/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine that the VMM resets: what it, or the next guest in it, has of the one before. */
#ifndef TINY_VM_RESET_H
#define TINY_VM_RESET_H

#include "tiny_vm_second.h"

#define STORED_AT 0x12000u	/* in reach of real mode */

/* What the host side is asked. */
enum { RESET_FOR_NEXT = 0x8000, RESET_WITH_PAGE_MOVED, LOOK_AT_MOVED, LET_SECOND_RUN, RESET_BESIDE_SECOND,
       LOADED, RESET_WITHOUT_SLOT, LOOK_AT_DEVICE };

static bool next_guest;	/* the VMM has started the program anew in the machine that it has reset */

/* The VMM has a page elsewhere when it resets the machine, and puts it back for the next guest. */
static GUEST void moved_page_ends_with_a_reset(void)
{
	volatile uint64_t *const words = (uint64_t *)(uint64_t)RANGE_AT;
	uint64_t old = 0;

	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		service(RESET_WITH_PAGE_MOVED);	/* nobody comes back */
	}
	for (unsigned int i = 0; i < PAGE / 8; i++)
		old += words[i] == OLD_WORD;
	tell("words of the guest before, in the page that was moved, for the next", way == PLAIN ? PAGE / 8 : 0, old);
	tell("words of the guest before, for the VMM after the reset", way == PLAIN ? PAGE / 8 : 0, service(LOOK_AT_MOVED));
	tell("the page is the next guest's: reached", way == PLAIN ? EACH(1) : 0, reached(RANGE_AT, 1));
}

static GUEST void sharing_ends_with_a_reset(void)
{
	fill_pages(RANGE_AT, 1, OLD_WORD);
	if (!next_guest) {
		tell("to share a page", 0, change(HC_SHARE, RANGE_AT, 1));
		tell("the page: reached by load, write(), direct map", EACH(1), reached(RANGE_AT, 1));
		service(RESET_FOR_NEXT);	/* nobody comes back */
	}
	tell("the page of the next guest, which has shared nothing: reached", way == PLAIN ? EACH(1) : 0,
	     reached(RANGE_AT, 1));
}

/* The VMM takes memory away with a reset: it is none of the next guest's, who finds there what any machine has. */
static GUEST void memory_is_forgotten_at_a_reset(void)
{
	volatile uint64_t *const memory = (uint64_t *)(uint64_t)EXTRA_SLOT;

	if (!next_guest) {
		service(ADD_SLOT);
		*memory = OLD_WORD;
		tell("what a guest stored in memory that will be gone", OLD_WORD, *memory);
		service(RESET_WITHOUT_SLOT);	/* nobody comes back */
	}
	*memory = NEW_WORD;
	tell("what a device got that is there for the next guest", NEW_WORD, service(LOOK_AT_DEVICE));
}

extern const unsigned char storing_code[], storing_end[];
asm(".text\n"
    ".code16\n"
    "storing_code:\n"
    "	mov $0x1200, %bx\n"	/* STORED_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov $0xe7c0ffee, %eax\n"	/* what of SECRET fits */
    "1:	mov %eax, 0\n"
    "	jmp 1b\n"
    "storing_end:\n"
    ".code64\n");

/* The host side tells the rest: another processor stores all along while the VMM resets the machine by the first. */
static GUEST void running_processor_ends_with_a_reset(void)
{
	volatile uint32_t *const stored = (uint32_t *)(uint64_t)STORED_AT;

	start_second();
	copy_code(START_VECTOR << 12, storing_code, storing_end);	/* it waits for the VMM, to begin */
	service(LET_SECOND_RUN);
	for (unsigned int round = 0; round < 2; round++) {
		*stored = 0;
		while (*stored != (uint32_t)SECRET)
			asm volatile("pause");
	}
	service(RESET_BESIDE_SECOND);
}

extern const unsigned char load_of_device[], load_end[];
asm(".text\n"
    "load_of_device:\n"
    "	mov 0x7abc000, %ebx\n"	/* NO_MEMORY_AT */
    "	ret\n"
    "load_end:\n");

static GUEST void map_operands(void)
{
	root[1] = (uint64_t)table(0) | TABLE;
	table(0)[IN_POINTERS] = (uint64_t)table(1) | TABLE;
	table(1)[IN_DIRECTORY] = (uint64_t)table(2) | TABLE;
	table(2)[IN_ENTRIES] = (uint64_t)table(3) | TABLE;
	flush_tlb();
}

/* The host side tells the rest: the VMM resets the machine when it is to complete a load, at an address of its own. */
static GUEST void interrupted_load_ends_with_a_reset(void)
{
	copy_code((uint64_t)table(3), load_of_device, load_end);
	map_operands();
	attempt((const void *)WINDOW, 0, 0);
}

extern const unsigned char copy_of_device[], copy_end[];
/* Of two bytes; KVM has the registers of the first when it asks for the second. */
asm(".text\n"
    "copy_of_device:\n"
    "	mov $2, %ecx\n"
    "	rep movsb\n"
    "	ret\n"
    "copy_end:\n");

/* The same in the middle of a copy, to an address of its own. */
static GUEST void interrupted_copy_ends_with_a_reset(void)
{
	copy_code((uint64_t)table(3), copy_of_device, copy_end);
	map_operands();
	attempt((const void *)WINDOW, WINDOW + PAGE / 2, NO_MEMORY_AT);
}

#endif
