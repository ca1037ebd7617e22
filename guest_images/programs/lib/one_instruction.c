// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "one_instruction.h"

const unsigned char emulation_prefix[PREFIX_BYTES] = { 0x0f, 0x0b, 'k', 'v', 'm' };

static struct {
	volatile bool running;
	struct machine wanted, before;
	struct ending *ending;
} current;

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
	memcpy(current.before.regs, context->uc_mcontext.gregs, sizeof(gregset_t));
	take_fx(context, current.before.fx);
	if (!current.ending)
		return;
	memcpy(context->uc_mcontext.gregs, current.wanted.regs, sizeof(gregset_t));
	put_fx(context, current.wanted.fx);
	current.running = true;
}

static void ends(int signal_, siginfo_t *info, void *context_)
{
	ucontext_t *context = context_;

	if (!current.running) {	/* our own fault: let it end us */
		signal(signal_, SIG_DFL);
		return;
	}
	current.running = false;
	current.ending->signal = signal_;
	current.ending->code = info->si_code;
	current.ending->address = (uintptr_t)info->si_addr;
	memcpy(current.ending->machine.regs, context->uc_mcontext.gregs, sizeof(gregset_t));
	take_fx(context, current.ending->machine.fx);
	memcpy(context->uc_mcontext.gregs, current.before.regs, sizeof(gregset_t));
	put_fx(context, current.before.fx);
}

struct machine prepare_to_run(void)
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
	return current.before;
}

void run_one(const struct machine *machine, struct ending *ending)
{
	current.wanted = *machine;
	current.ending = ending;
	raise(SIGUSR1);
}
