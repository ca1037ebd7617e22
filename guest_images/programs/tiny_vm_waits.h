/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one processor does while the guest's request for private registers, or the machine's reset, waits for another one:
 * that one needs a page that the VMM keeps back (userfaultfd).
 */
#ifndef TINY_VM_WAITS_H
#define TINY_VM_WAITS_H

#include "tiny_vm_shutdown.h"

#define BEGUN_OFFSET 0x100u	/* behind FIRMWARE_VECTOR: whether its code has begun */
#define HELD_AT 0xf1000u	/* memory that is shared from the start, which the second processor loads from */

/* What the host side is asked. */
enum { RUN_ACROSS = 0xc000, LOOK_ACROSS, BEGAN_ACROSS };
enum { HOLD_SECOND = 0xd000, RESET_WITH_START_PENDING, RESET_DURING_CALL, RESET_WHILE_STEERED };
enum { ASK_BEFORE = 0xe000, CAME_BEFORE };
#define CALL_LEADS_TO 0xebf4u	/* by the page that the VMM gives back */
#define RETURNS_TO (STORED_AT + 0xeu)	/* where the call stores where it comes from */

/* The VMM has sent INIT and STARTUP before, and lets the processor run when all others have to forget. */
static GUEST void run_second_across_enable(void)
{
	service(RUN_ACROSS);
	enable_with_registers();
}

static GUEST void second_does_not_run_across(void)
{
	if (way == PLAIN)
		service(RUN_ACROSS);
	else
		tell("the VMM lets the second processor run while the request waits", 1, service(BEGAN_ACROSS));
	keep_a_secret();
	tell("what the VMM's code has of the guest's memory after the request", way == PLAIN ? SECRET_WORD : 0,
	     service(LOOK_ACROSS));
}

extern const unsigned char waiting_code[], waiting_end[];
asm(".text\n"
    ".code16\n"
    "waiting_code:\n"
    "	mov $0xf100, %bx\n"	/* HELD_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov 0, %eax\n"
    "1:	hlt\n"
    "	jmp 1b\n"
    "waiting_end:\n"
    ".code64\n");

extern const unsigned char calling_code[], calling_end[], called_code[], called_end[];
asm(".text\n"
    ".code16\n"
    "calling_code:\n"
    "	mov $0xf100, %bx\n"	/* HELD_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov $0x1200, %bx\n"	/* STORED_AT / 16 */
    "	mov %bx, %ss\n"
    "	mov $0x10, %sp\n"
    FORCED
    "	call *0\n"
    "calling_end:\n"
    "called_code:\n"
    "1:	hlt\n"
    "	jmp 1b\n"
    "called_end:\n"
    ".code64\n");

/*
 * The host side tells the rest. KVM carries out a call of the processor's: it waits for the VMM, to load where that leads
 * to, and then stores a register.
 */
static GUEST void call_under_way_ends_with_a_reset(void)
{
	*(volatile uint64_t *)(uint64_t)STORED_AT = 0;
	*(volatile uint64_t *)(uint64_t)(STORED_AT + 8) = 0;
	copy_code((START_VECTOR << 12) + CALL_LEADS_TO, called_code, called_end);
	start_second_at(calling_code, calling_end);
	service(HOLD_SECOND);
	service(RESET_DURING_CALL);	/* nobody comes back */
}

/*
 * The host side tells the rest. The VMM has the reset wait before the memory is empty, and meanwhile gives another
 * processor code and registers of its own.
 */
static GUEST void steered_processor_finds_nothing(void)
{
	keep_a_secret();
	service(RESET_WHILE_STEERED);	/* nobody comes back */
}

/* The VMM's code on another processor has asked for protection when the guest does; both wait for the VMM. */
static GUEST void ask_behind_another(void)
{
	service(ASK_BEFORE);
	enable_with_registers();
}

static GUEST void nobody_is_asked_before(void)
{
	if (way != PLAIN)
		tell("another processor's request waits when the guest's comes", 1, service(CAME_BEFORE));
}

/* The host side tells the rest. The processor is in KVM, and must forget its registers first, and then start. */
static GUEST void start_that_is_pending_ends_with_a_reset(void)
{
	start_second_at(waiting_code, waiting_end);
	service(HOLD_SECOND);
	start_second();
	service(RESET_WITH_START_PENDING);	/* nobody comes back */
}

#endif
