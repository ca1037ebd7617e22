/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One instruction, run with all registers as wanted, and all that became of it: registers, flags, and the signal that
 * ended it.
 *
 * The way in is a return from a signal handler whose saved registers were replaced; the way out is the signal of a
 * breakpoint behind the instruction, or of the fault that it met. So the instruction may use any register, the stack
 * pointer included.
 */
#ifndef ONE_INSTRUCTION_H
#define ONE_INSTRUCTION_H

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "check.h"
#include "signal_names.h"

#define FX_BYTES 512	/* of fxsave */
#define FX_USED 416	/* what is behind belongs to software */
#define FX_MXCSR_MASK 28	/* 4 bytes that the processor fills in */
#define FX_ST 32
#define FX_XMM 160
#define BREAKPOINT 0xcc
#define PREFIX_BYTES 5
#define HAS_XSTATE 0x46505853	/* FP_XSTATE_MAGIC1, asm/sigcontext.h */

struct machine {
	gregset_t regs;
	unsigned char fx[FX_BYTES];
};

struct ending {
	struct machine machine;
	int signal, code;
	uint64_t address;
};

/* Behind ud2 and "kvm" KVM emulates an instruction, with its parameter force_emulation_prefix; else it is SIGILL. */
extern const unsigned char emulation_prefix[PREFIX_BYTES];

/* Returns registers of this program, from which those that an instruction gets are made. */
struct machine prepare_to_run(void);

/* Runs from machine->regs[REG_RIP] on until a signal. */
void run_one(const struct machine *machine, struct ending *ending);

#endif
