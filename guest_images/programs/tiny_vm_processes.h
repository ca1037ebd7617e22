/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other processes that have VMs: children of the VMM, VMMs of another user in turn, and all other rows. */
#ifndef TINY_VM_PROCESSES_H
#define TINY_VM_PROCESSES_H

#include "tiny_vm_refusals.h"

#define NOBODY 54321u		/* a user of no other process */
#define LOCKED_AT RANGE
#define LOCKED_BYTES (12u << 20)	/* by a VM, beside its program's */
#define MAY_LOCK (20u << 20)		/* enough for one VM, and not for two */

/* What the host side is asked. */
enum { ASK_CHILD = 0x9000, LOOK_AT_CHILD, ASK_LIMITED, ASK_LIMITED_BESIDE, RUN_ALL_ROWS, COUNT_OUT, COUNT_LEFT };

/* A VM of a process has its memory protected, whatever its parent has. */
static GUEST void child_is_protected(void)
{
	tell("what the guest of a child is told", 0, service(ASK_CHILD));
	tell("pages of that guest's code that the child reaches", way == PLAIN, service(LOOK_AT_CHILD));
}

/* Before the guest itself is protected: VMMs of a user who may lock the memory of one. */
static GUEST void ask_in_turn(void)
{
	tell("ENABLE of a first VM of a user", 0, service(ASK_LIMITED));
	tell("ENABLE of a VM beside another one of the user", way == PLAIN ? 0 : NO_MEMORY, service(ASK_LIMITED_BESIDE));
	tell("ENABLE of a VM when those before have ended", 0, service(ASK_LIMITED));
}

static GUEST void locked_memory_comes_back(void)
{
	if (way == PLAIN)
		ask_in_turn();
}

/* All that the rows do with private pages, each in a VM of its own that ends. */
static GUEST void private_memory_comes_back(void)
{
	tell("pages are out of the host's direct map", way != PLAIN, service(COUNT_OUT) != 0);
	if (way != PLAIN)	/* the control: there is nothing to come back */
		tell("other rows that do not end by themselves", 0, service(RUN_ALL_ROWS));
	tell("more pages are out of it when their VMs have ended", 0, service(COUNT_LEFT));
}

#endif
