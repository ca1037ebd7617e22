// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tiny_vm - a VMM whose guest does one thing that KVM must carry out for it, on pages of every kind
 *
 * usage: tiny_vm ROW plain|private|shared
 *
 * For what no operating system does for us: other modes of the processor, page tables by hand, SVM in SVM. The guest is
 * code of this program (guest.h), in 64 MiB of anonymous memory. "plain": it does not ask for protection. "private":
 * it does, by hypercall. "shared": it does, and shares the pages that the row is about. Checks are those of the guest,
 * of the VMM's own look at these pages before and after, and of exits that must not be: an internal error, a shutdown,
 * a memory access that comes to the VMM though the guest has memory there.
 *
 * Needs /dev/kvm. A row is a line of the table at the end of its subject's file; rows.c lists these tables.
 */

#include "exits.h"
#include "looks.h"
#include "ranges.h"
#include "rows.h"

int main(int argc, char **argv)
{
	static const char *const ways[] = { "plain", "private", "shared" };
	struct sigaction on_alarm = { .sa_handler = take_alarm }, on_fault = { .sa_handler = take_fault_of_ours };
	struct sigaction on_kick = { .sa_handler = take_kick };
	static struct vm vm;
	struct text line = { 0 };
	bool has_way = false;

	program = argv[0];
	for (const struct row *any = next_row(NULL); argc == 3 && any; any = next_row(any)) {
		if (!strcmp(argv[1], any->name))
			row = any;
	}
	for (unsigned int i = 0; argc == 3 && i < sizeof(ways) / sizeof(*ways); i++) {
		if (!strcmp(argv[2], ways[i])) {
			way = (enum way)i;
			has_way = true;
		}
	}
	if (!row || !has_way) {
		fprintf(stderr, "usage: tiny_vm ROW plain|private|shared\nrows:");
		for (const struct row *any = next_row(NULL); any; any = next_row(any))
			fprintf(stderr, " %s", any->name);
		fprintf(stderr, "\n");
		return 2;
	}
	sigaction(SIGALRM, &on_alarm, NULL);
	sigaction(SIGUSR1, &on_kick, NULL);
	sigaction(SIGBUS, &on_fault, NULL);
	sigaction(SIGSEGV, &on_fault, NULL);
	make_vm(&vm);
	alarm(DEADLINE_S);
	set_mode(&vm, MODE64, guest_begins);
	run_until(&vm, PORT_READY);
	report_hex(&line, "requests for protection", row->given.number && way != PLAIN ? NO_RIGHT : 0,
		   ((struct report *)at(&vm, &shared.report))->enabled);
	look(&line, &vm, "before");
	run_until(&vm, PORT_DONE);
	if (row->begin && !vm.wrong[0] && !vm.over) {
		set_mode(&vm, row->mode, row->begin);
		run_until(&vm, PORT_DONE);
	}
	look(&line, &vm, "afterwards");
	report_all(&line, &vm);
	return 0;
}
