/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_WALK_H
#define TINY_VM_WALK_H

#include "vmm.h"

/* The operands' pages. */
enum { POINTERS, DIRECTORY, ENTRIES, FIRST, SECOND, WALK_PAGES };

#define IN_POINTERS 2
#define IN_DIRECTORY 3
#define IN_ENTRIES 4
#define VALUE 0x1122334455667788ull

DECLARE_BOTH(load);
DECLARE_BOTH(store);
DECLARE_BOTH(add);
DECLARE_BOTH(copy);
GUEST void map_window(uint64_t first, uint64_t second);
GUEST void write_prefix(void);

extern const struct row walk_rows[];

#endif
