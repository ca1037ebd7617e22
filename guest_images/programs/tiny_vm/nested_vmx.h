/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_NESTED_VMX_H
#define TINY_VM_NESTED_VMX_H

#include "vmm.h"

extern const struct row nested_vmx_rows[];

#endif
