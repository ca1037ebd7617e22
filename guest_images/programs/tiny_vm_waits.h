/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one processor does while the guest's request for private registers waits for another one: that one needs a page
 * that the VMM keeps back (userfaultfd).
 */
#ifndef TINY_VM_WAITS_H
#define TINY_VM_WAITS_H

#include "tiny_vm_shutdown.h"

#define BEGUN_OFFSET 0x100u	/* behind FIRMWARE_VECTOR: whether its code has begun */

/* What the host side is asked. */
enum { RUN_ACROSS = 0xc000, LOOK_ACROSS, BEGAN_ACROSS };

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

#endif
