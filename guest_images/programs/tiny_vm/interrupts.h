/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_INTERRUPTS_H
#define TINY_VM_INTERRUPTS_H

#include "vmm.h"

#define APIC_ENABLED 0x800u	/* of MSR_APIC_BASE */
#define APIC_BOOTS 0x100u

extern const struct row interrupts_rows[];

#endif
