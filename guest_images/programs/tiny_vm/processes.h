/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_PROCESSES_H
#define TINY_VM_PROCESSES_H

#include "vmm.h"

extern const struct row processes_rows[];

#endif
