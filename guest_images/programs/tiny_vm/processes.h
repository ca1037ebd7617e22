/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_PROCESSES_H
#define TINY_VM_PROCESSES_H

#include <sys/types.h>

#include "vmm.h"

/* What a child tells its parent, and the parent a child. */
struct child_report {
	uint64_t enabled;	/* what the request for protection said */
	uint64_t loaded;	/* pages of its guest's code that the child may load from */
	volatile bool ready, ends;
	int status;		/* as waitpid() has it, once it has ended by itself */
};

/* A process with a VM of its own. */
struct child {
	const struct row *row;	/* asks the host for nothing */
	bool limited;		/* it is a user's who may lock the memory of one VM, and not of two */
	size_t used;		/* bytes of the guest's memory that it stores to before the guest runs */
	const char *group;	/* its memory cgroup; NULL: its parent's */
	uint64_t spare;		/* bytes that the group may have beyond what it has when the guest begins; 0: any number */
};

/* Runs its guest to the end, and waits for end_vmm(). */
pid_t start_vmm(struct child_report **child_report, const struct child *of);
void end_vmm(pid_t child, struct child_report *child_report);

/* Return: how the process ends, as waitpid() has it, which may be before its guest is done, and has asked. */
int run_vmm(const struct child *of, uint64_t *enabled);

extern const struct row processes_rows[];

#endif
