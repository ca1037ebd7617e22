/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exact names of signals and of their si_codes, as <signal.h> spells them (sigaction(2)).
 */
#ifndef SIGNAL_NAMES_H
#define SIGNAL_NAMES_H

#include <signal.h>
#include <string.h>

#include "line_server.h"

void add_signal_name(struct text *t, int signo);

void add_code_name(struct text *t, int signo, int code);

#endif
