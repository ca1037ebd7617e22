// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "signal_names.h"

/* si_codes of one signal count from 1; see include/uapi/asm-generic/siginfo.h of the kernel. */
static const char *const ill_codes[] = { "ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC",
					 "ILL_PRVREG", "ILL_COPROC", "ILL_BADSTK", "ILL_BADIADDR" };

static const char *const fpe_codes[] = { "FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND",
					 "FPE_FLTRES", "FPE_FLTINV", "FPE_FLTSUB" };

static const char *const segv_codes[] = { "SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR", "SEGV_ACCADI",
					  "SEGV_ADIDERR", "SEGV_ADIPERR", "SEGV_MTEAERR", "SEGV_MTESERR",
					  "SEGV_CPERR" };

static const char *const bus_codes[] = { "BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO" };

static const char *const trap_codes[] = { "TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK",
					  "TRAP_PERF" };

static const char *const sys_codes[] = { "SYS_SECCOMP", "SYS_USER_DISPATCH" };

#define CODES(signo, table) { signo, table, sizeof(table) / sizeof(table[0]) }

static const struct {
	int signo;
	const char *const *names;
	size_t count;
} code_tables[] = {
	CODES(SIGILL, ill_codes), CODES(SIGFPE, fpe_codes), CODES(SIGSEGV, segv_codes),
	CODES(SIGBUS, bus_codes), CODES(SIGTRAP, trap_codes), CODES(SIGSYS, sys_codes),
};

static const struct {
	int code;
	const char *name;
} common_codes[] = {
	{ SI_USER, "SI_USER" }, { SI_KERNEL, "SI_KERNEL" }, { SI_QUEUE, "SI_QUEUE" }, { SI_TIMER, "SI_TIMER" },
	{ SI_MESGQ, "SI_MESGQ" }, { SI_ASYNCIO, "SI_ASYNCIO" }, { SI_SIGIO, "SI_SIGIO" }, { SI_TKILL, "SI_TKILL" },
};

void add_signal_name(struct text *t, int signo)
{
	const char *name = sigabbrev_np(signo);

	if (name)
		text_add(t, "\"SIG%s\"", name);
	else
		text_add(t, "\"SIG%d\"", signo);
}

void add_code_name(struct text *t, int signo, int code)
{
	for (size_t i = 0; i < sizeof(common_codes) / sizeof(common_codes[0]); i++) {
		if (common_codes[i].code == code) {
			text_add(t, "\"%s\"", common_codes[i].name);
			return;
		}
	}
	for (size_t i = 0; i < sizeof(code_tables) / sizeof(code_tables[0]); i++) {
		if (code_tables[i].signo == signo && code >= 1 && (size_t)code <= code_tables[i].count) {
			text_add(t, "\"%s\"", code_tables[i].names[code - 1]);
			return;
		}
	}
	text_add(t, "\"si_code %d\"", code);
}
