/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_GROUPS_H
#define TINY_VM_GROUPS_H

#include "vmm.h"

/* Moves this process into a memory cgroup. */
void enter_group(const char *group);
/* Lets a memory cgroup have some bytes more than it has. */
void limit_group(const char *group, uint64_t spare);

extern const struct row groups_rows[];

#endif
