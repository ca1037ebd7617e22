/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_RANGES_H
#define TINY_VM_RANGES_H

#include "vmm.h"

#define HC_UNSHARE 15
#define RANGE 0x2400000u		/* memory that nothing else uses; in the middle of a large page */
#define RANGE_AT (RANGE + 0x3000u)
#define GROUP_AT (RANGE + 0x8000u)	/* the first of 8 pages that KVM may map together */
#define EXTRA_SLOT RAM_BYTES		/* right behind the VM's memory, a slot of its own */
#define EXTRA_PAGES 16u
#define NOT_VALID ((uint64_t)-22)	/* KVM_EINVAL */
#define NO_RIGHT ((uint64_t)-1)		/* KVM_EPERM */
#define IS_BUSY ((uint64_t)-16)		/* KVM_EBUSY */
#define SEAL_PAGES 5u
#define NO_MEMORY ((uint64_t)-12)	/* KVM_ENOMEM */
#define FAIL_PAGES 5u
#define EACH(pages) ((uint64_t)(pages) | (uint64_t)(pages) << 16 | (uint64_t)(pages) << 32)

/* What the host side is asked; a range is in the report's first words. */
enum { COUNT_REACHED = 1, ADD_SLOT, TAKE_HANDLES, LOOK_BY_PIN, LOOK_BY_PIPE, LOOK_BY_VM, LOOK_BY_BUFFER, LOOK_BY_LOAD, ASK_ANOTHER,
       COUNT_MAPPINGS, SEAL, COUNT_LOADS, ADD_ALIAS, COUNT_SPARSE, FAILED, SWEEP_SLOTS, FORBID_WRITES, ALLOW_WRITES, MOVE_THERE,
       MOVE_BACK, REPLACE, LOOK_ON, END_ANOTHER, ASK_UNGIVEN, SEAL_REST, PAGE_OUT, FAIL_NTH = 0x1000 };

#define OLD_WORD 0x0123456789abcdefull
#define NEW_WORD 0xfedcba9876543210ull

GUEST uint64_t change(uint64_t number, uint64_t address, uint64_t pages);
GUEST uint64_t reached(uint64_t address, uint64_t pages);
GUEST void fill_pages(uint64_t address, uint64_t pages, uint64_t word);
GUEST uint64_t whole_pages(uint64_t address, uint64_t pages, uint64_t word);

uint64_t look_at(const unsigned char *page, unsigned int pages, bool some_lack);
uint64_t serve_ranges(struct vm *vm, uint32_t what);
void seal(void *where, size_t bytes);

extern const struct row ranges_rows[];

#endif
