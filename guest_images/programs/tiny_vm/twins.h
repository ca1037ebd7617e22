/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_TWINS_H
#define TINY_VM_TWINS_H

#include "vmm.h"

extern const struct row twins_rows[];

#endif
