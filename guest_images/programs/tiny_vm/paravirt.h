/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_PARAVIRT_H
#define TINY_VM_PARAVIRT_H

#include "vmm.h"

/* arch/x86/include/uapi/asm/kvm_para.h; include/uapi/linux/kvm_para.h */
#define MSR_WALL_CLOCK 0x4b564d00
#define MSR_PV_EOI 0x4b564d04
#define MSR_APIC_BASE 0x1b
#define X2APIC_SELF 0x83f
#define IRQ 0x50	/* the rows' vector */
#define INTERRUPTS 20

enum { AREA, TOUCHED, TOUCHED_TABLE };	/* the operands' pages */

/* An interrupt counts, remembers the area's first word, and is ended as a guest does: by KVM's bit (MSR_PV_EOI), or by the APIC. */
extern volatile uint64_t irq_count, irq_saw, irq_other;
GUEST void use_x2apic(void);
GUEST void take_interrupts(void);

extern const struct row paravirt_rows[];

#endif
