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

/* Behind ud2 and "kvm" KVM emulates an instruction, with its parameter force_emulation_prefix; else it is SIGILL. */
static const unsigned char emulation_prefix[PREFIX_BYTES] = { 0x0f, 0x0b, 'k', 'v', 'm' };

struct machine {
	gregset_t regs;
	unsigned char fx[FX_BYTES];
};

struct ending {
	struct machine machine;
	int signal, code;
	uint64_t address;
};

static struct {
	volatile bool running;
	struct machine wanted, before;
	struct ending *ending;
} one;

static void take_fx(ucontext_t *context, unsigned char *fx)
{
	memcpy(fx, context->uc_mcontext.fpregs, FX_BYTES);
}

static void put_fx(ucontext_t *context, const unsigned char *fx)
{
	unsigned char *there = (unsigned char *)context->uc_mcontext.fpregs;
	uint32_t magic, size;

	memcpy(there, fx, FX_USED);
	/* struct _fpx_sw_bytes: with XSAVE, and only then, more follows, and says what is in use. */
	memcpy(&magic, there + 464, sizeof(magic));
	memcpy(&size, there + 480, sizeof(size));
	if (magic == HAS_XSTATE && size > FX_BYTES)
		there[FX_BYTES] |= 3;
}

static void begins(int signal, siginfo_t *info, void *context_)
{
	ucontext_t *context = context_;

	(void)signal, (void)info;
	memcpy(one.before.regs, context->uc_mcontext.gregs, sizeof(gregset_t));
	take_fx(context, one.before.fx);
	if (!one.ending)
		return;
	memcpy(context->uc_mcontext.gregs, one.wanted.regs, sizeof(gregset_t));
	put_fx(context, one.wanted.fx);
	one.running = true;
}

static void ends(int signal_, siginfo_t *info, void *context_)
{
	ucontext_t *context = context_;

	if (!one.running) {	/* our own fault: let it end us */
		signal(signal_, SIG_DFL);
		return;
	}
	one.running = false;
	one.ending->signal = signal_;
	one.ending->code = info->si_code;
	one.ending->address = (uintptr_t)info->si_addr;
	memcpy(one.ending->machine.regs, context->uc_mcontext.gregs, sizeof(gregset_t));
	take_fx(context, one.ending->machine.fx);
	memcpy(context->uc_mcontext.gregs, one.before.regs, sizeof(gregset_t));
	put_fx(context, one.before.fx);
}

/* Returns registers of this program, from which those that an instruction gets are made. */
static struct machine prepare_to_run(void)
{
	static unsigned char stack[65536];
	stack_t own = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction start = { .sa_sigaction = begins, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction end = { .sa_sigaction = ends, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (sigaltstack(&own, NULL) || sigaction(SIGUSR1, &start, NULL))
		cannot("have a stack and a handler for signals");
	for (const int *s = (const int[]){ SIGTRAP, SIGILL, SIGSEGV, SIGBUS, SIGFPE, 0 }; *s; s++)
		sigaction(*s, &end, NULL);
	raise(SIGUSR1);
	return one.before;
}

/* Runs from machine->regs[REG_RIP] on until a signal. */
static void run_one(const struct machine *machine, struct ending *ending)
{
	one.wanted = *machine;
	one.ending = ending;
	raise(SIGUSR1);
}

#endif
