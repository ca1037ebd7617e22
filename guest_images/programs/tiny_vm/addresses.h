/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_ADDRESSES_H
#define TINY_VM_ADDRESSES_H

#include "vmm.h"

extern const struct row addresses_rows[];

#endif
