/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_REPLACED_H
#define TINY_VM_REPLACED_H

#include "vmm.h"

uint64_t serve_moves(struct vm *vm, uint32_t what);
bool make_large(unsigned char *where);

extern const struct row replaced_rows[];

#endif
