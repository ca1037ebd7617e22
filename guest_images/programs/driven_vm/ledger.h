/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DRIVEN_VM_LEDGER_H
#define DRIVEN_VM_LEDGER_H

#include "../lib/line_server.h"

/* What the VMM and its parent share. */
void make_ledger(void);

/* Whether the VMM has ended because a line said so. */
bool has_ended_by_line(void);

/* What the frames of a process that has ended hold now; who has one of them by now may have filled it. */
void look_at_frames(struct text *reply);

#endif
