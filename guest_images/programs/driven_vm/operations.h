/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An operation each, as a line names it: README.md says what it does and answers. */
#ifndef DRIVEN_VM_OPERATIONS_H
#define DRIVEN_VM_OPERATIONS_H

#include "../lib/line_server.h"

void do_enable(int argc, char **args, struct text *reply);
void do_share(int argc, char **args, struct text *reply);
void do_unshare(int argc, char **args, struct text *reply);
void do_fill(int argc, char **args, struct text *reply);
void do_look(int argc, char **args, struct text *reply);
void do_slot(int argc, char **args, struct text *reply);
void do_unslot(int argc, char **args, struct text *reply);
void do_reset(int argc, char **args, struct text *reply);
void do_destroy(int argc, char **args, struct text *reply);
void do_second(int argc, char **args, struct text *reply);
void do_seconds(int argc, char **args, struct text *reply);
void do_second_enables(int argc, char **args, struct text *reply);
void do_store(int argc, char **args, struct text *reply);
void do_map(int argc, char **args, struct text *reply);
void do_unmap(int argc, char **args, struct text *reply);
void do_move(int argc, char **args, struct text *reply);
void do_protect(int argc, char **args, struct text *reply);
void do_advise(int argc, char **args, struct text *reply);
void do_pin(int argc, char **args, struct text *reply);
void do_pinned(int argc, char **args, struct text *reply);
void do_unpin(int argc, char **args, struct text *reply);
void do_register(int argc, char **args, struct text *reply);
void do_registered(int argc, char **args, struct text *reply);
void do_unregister(int argc, char **args, struct text *reply);
void do_fork(int argc, char **args, struct text *reply);
void do_child(int argc, char **args, struct text *reply);
void do_reap(int argc, char **args, struct text *reply);
void do_await(int argc, char **args, struct text *reply);
void do_arrive(int argc, char **args, struct text *reply);
void do_sweep(int argc, char **args, struct text *reply);
void do_book(int argc, char **args, struct text *reply);
void do_frames(int argc, char **args, struct text *reply);
void do_end(int argc, char **args, struct text *reply);

#endif
