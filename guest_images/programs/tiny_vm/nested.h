/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_NESTED_H
#define TINY_VM_NESTED_H

#include "vmm.h"

/* AMD APM 2, appendix B: the control block, and where the state is in it. */
enum { VM_INTERCEPT3 = 0x0c, VM_INTERCEPT4 = 0x10, VM_IOPM = 0x40, VM_MSRPM = 0x48, VM_ASID = 0x58,
       VM_EXIT_CODE = 0x70, VM_EXIT_INFO1 = 0x78, VM_EXIT_INFO2 = 0x80, VM_NESTED = 0x90, VM_NESTED_CR3 = 0xb0,
       VM_ES = 0x400, VM_CS = 0x410, VM_SS = 0x420, VM_DS = 0x430, VM_GDTR = 0x460, VM_IDTR = 0x480, VM_TR = 0x490,
       VM_EFER = 0x4d0, VM_CR4 = 0x548, VM_CR3 = 0x550, VM_CR0 = 0x558, VM_DR7 = 0x560, VM_DR6 = 0x568,
       VM_RFLAGS = 0x570, VM_RIP = 0x578, VM_RSP = 0x5d8, VM_RAX = 0x5f8, VM_PAT = 0x668 };

#define INTERCEPT_IO (1u << 27)
#define INTERCEPT_MSR (1u << 28)
#define INTERCEPT_VMRUN 1u
#define INTERCEPT_VMMCALL 2u
#define EXIT_IO 0x7b
#define EXIT_VMMCALL 0x81
#define MSR_SAVE_AREA 0xc0010117

/* The operands' pages. */
enum { CONTROL, SAVE_AREA, MSR_MAP, IO_MAP = MSR_MAP + 2, NESTED_ROOT = IO_MAP + 3, NESTED_POINTERS, NESTED_DIRECTORY,
       NESTED_ENTRIES, NESTED_DATA, NESTED_OTHER, NESTED_STACK };

extern const unsigned char nested_code[], nested_loads[];
uint64_t run_nested(uint64_t control, uint64_t rdi);
GUEST uint64_t *in_control(unsigned int at);
GUEST void prepare_nested(void);
GUEST uint64_t run_on(unsigned int bytes);

extern const struct row nested_rows[];

#endif
