/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_DISCLOSURES_H
#define TINY_VM_DISCLOSURES_H

#include "vmm.h"

#define GIVE_UPS 2000u

/* What attempt() calls: stores the second argument in the register that is the first. */
extern const unsigned char write_register[];

void report_untold(struct text *line, const struct vm *vm);
void report_watched(struct text *line, const struct vm *vm);
uint64_t serve_timer(struct vm *vm, uint32_t what);

extern const struct row disclosures_rows[];

#endif
