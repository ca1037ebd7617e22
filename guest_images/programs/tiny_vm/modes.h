/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_MODES_H
#define TINY_VM_MODES_H

#include "vmm.h"

#define REAL_CODE 0x8000u
#define REAL_DATA 0x20000u
#define REAL_STACK 0x30000u
#define SMM_BASE 0x30000u	/* of a processor that nobody has moved */
#define SMM_ENTRY 0x8000u

struct gate32 {
	uint16_t low, selector, kind, high;
};

extern struct gate32 gates32[64];

/* The operands' pages of the task switch: the descriptors, two tasks, their stacks. */
enum { TASK_DESCRIPTORS, TASK_ONE, TASK_TWO, TASK_STACKS };

#define SELECT_ONE 0x40		/* tasks among the descriptors; lower ones are those of all rows */
#define SELECT_TWO 0x48
#define TASK_SWITCHES 100

extern const unsigned char task_begin[], task_two[];
bool kvm_runs_real_mode(void);
uint64_t raise_smi(struct vm *vm, uint32_t what);
uint64_t count_task_switches(struct vm *vm, uint32_t what);

extern const struct row modes_rows[];

#endif
