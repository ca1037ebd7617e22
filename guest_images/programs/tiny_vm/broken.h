/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_BROKEN_H
#define TINY_VM_BROKEN_H

#include "vmm.h"

extern const struct row broken_rows[];

#endif
