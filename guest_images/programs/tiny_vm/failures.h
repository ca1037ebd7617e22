/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_FAILURES_H
#define TINY_VM_FAILURES_H

#include "vmm.h"

void write_setting(const char *name, const char *value);
/* Those of this thread, when it asks for it (FAIL_NTH). */
void let_allocations_fail(struct vm *vm);
uint64_t serve_failures(struct vm *vm, uint32_t what);

extern const struct row failures_rows[];

#endif
