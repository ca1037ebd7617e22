/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_SLOTS_H
#define TINY_VM_SLOTS_H

#include "vmm.h"

GUEST uint64_t *logged(unsigned int page);

extern const struct row slots_rows[];

#endif
