/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_FAILURES_H
#define TINY_VM_FAILURES_H

#include "vmm.h"

void write_setting(const char *name, const char *value);

extern const struct row failures_rows[];

#endif
