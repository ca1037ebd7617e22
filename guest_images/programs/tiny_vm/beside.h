/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_BESIDE_H
#define TINY_VM_BESIDE_H

#include "vmm.h"

extern const struct row beside_rows[];

#endif
