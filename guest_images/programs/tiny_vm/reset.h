/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_RESET_H
#define TINY_VM_RESET_H

#include "vmm.h"

#define STORED_AT 0x12000u	/* in reach of real mode */

/* What the host side is asked. */
enum { RESET_FOR_NEXT = 0x8000, RESET_WITH_PAGE_MOVED, LOOK_AT_MOVED, LET_SECOND_RUN, RESET_BESIDE_SECOND,
       LOADED, RESET_WITHOUT_SLOT, LOOK_AT_DEVICE, NOTE_REGISTERS, NOTE_KEYS,
       RESET_AND_READ };

extern bool next_guest;
void reset_by_first(struct vm *vm);
void start_next(struct vm *vm);
uint64_t count_words(const unsigned char *page);

/* Real-mode code that stores what of SECRET fits at STORED_AT, and again and again. */
extern const unsigned char storing_code[], storing_end[];

/* Runs the second processor, by a thread of its own. */
void *run_along(void *of);

extern const struct row reset_rows[];

#endif
