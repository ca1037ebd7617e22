/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_HANDLES_H
#define TINY_VM_HANDLES_H

#include "vmm.h"

uint64_t ask_another(struct vm *vm, uint32_t what);

extern const struct row handles_rows[];

#endif
