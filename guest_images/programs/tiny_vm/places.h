/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_PLACES_H
#define TINY_VM_PLACES_H

#include "vmm.h"

/* How many of the first pages of the range were empty; none is afterwards. */
GUEST uint64_t touch_pages(uint64_t pages);

extern const struct row places_rows[];

#endif
