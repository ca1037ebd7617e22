/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_HYPER_V_H
#define TINY_VM_HYPER_V_H

#include "vmm.h"

extern const struct row hyper_v_rows[];

#endif
