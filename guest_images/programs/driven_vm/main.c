// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * driven_vm - a small VMM and its guest, which do what a line says
 *
 * usage: driven_vm < LINES
 *
 * One operation a line, one reply a line (README.md). It does the whole of its input, in a process of its own, and then
 * looks what is left of that process in the host's memory. It judges nothing.
 *
 * The guest has a page of code of this program, and sees one "arena" of the VMM's memory by memory slots that lines
 * make. It is a few instructions in 32-bit mode without paging: the VMM sets the registers that say what to do, so they
 * must not be private. A page that is filled has one word all over it, its mark. Needs /dev/kvm.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../lib/check.h"
#include "ledger.h"
#include "operations.h"
#include "page.h"
#include "vm.h"
#include "words.h"

#define ARENA ((void *)0x10000000000)	/* far below what mmap() picks: nothing else comes into holes of it */
#define DEADLINE_S 60

static const struct command commands[] = {
	{ "enable", 0, 0, "enable", do_enable },
	{ "share", 2, 2, "share GFN PAGES", do_share },
	{ "unshare", 2, 2, "unshare GFN PAGES", do_unshare },
	{ "fill", 4, 4, "fill GFN PAGES NUMBER native|emulated", do_fill },
	{ "look", 3, 3, "look GFN PAGES native|emulated", do_look },
	{ "slot", 5, 5, "slot ID GFN PAGES PLACE rw|ro", do_slot },
	{ "unslot", 1, 1, "unslot ID", do_unslot },
	{ "store", 3, 3, "store PLACE PAGES NUMBER", do_store },
	{ "map", 3, 3, "map PLACE PAGES NUMBER", do_map },
	{ "unmap", 2, 2, "unmap PLACE PAGES", do_unmap },
	{ "move", 3, 3, "move FROM TO all|content", do_move },
	{ "protect", 3, 3, "protect PLACE PAGES none|read|write", do_protect },
	{ "advise", 3, 3, "advise PLACE PAGES ADVICE", do_advise },
	{ "pin", 2, 2, "pin PLACE PAGES", do_pin },
	{ "pinned", 0, 0, "pinned", do_pinned },
	{ "unpin", 0, 0, "unpin", do_unpin },
	{ "register", 2, 2, "register HOLDER PLACE", do_register },
	{ "registered", 1, 2, "registered HOLDER [NUMBER]", do_registered },
	{ "unregister", 1, 1, "unregister HOLDER", do_unregister },
	{ "fork", 0, 0, "fork", do_fork },
	{ "child", 0, 0, "child", do_child },
	{ "reap", 0, 0, "reap", do_reap },
	{ "await", 1, 1, "await PLACE", do_await },
	{ "arrive", 1, 1, "arrive NUMBER", do_arrive },
	{ "second", 2, 2, "second PLACE PAGES", do_second },
	{ "seconds", 1, 1, "seconds PAGES", do_seconds },
	{ "second_enables", 0, 0, "second_enables", do_second_enables },
	{ "reset", 0, 0, "reset", do_reset },
	{ "destroy", 0, 0, "destroy", do_destroy },
	{ "sweep", 0, 0, "sweep", do_sweep },
	{ "book", 0, 0, "book", do_book },
	{ "frames", 0, 0, "frames", do_frames },
	{ "end", 1, 1, "end kill|exit", do_end },
	{ 0 },
};

static void live(FILE *lines)
{
	struct text reply = { 0 };
	char *line = NULL;
	size_t room = 0;

	catch_faults();
	alarm(DEADLINE_S);
	kvm_file = open_path("/dev/kvm", O_RDWR);
	make_driven_vm(&first_vm);
	arena = mmap(ARENA, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (arena != ARENA)
		cannot("map the arena");
	for (unsigned int page = 0; page < ARENA_PAGES; page++)
		arena[page * PAGE] = 0;	/* or what mremap() moves would have no place that it came from */
	while (getline(&line, &room, lines) > 0) {
		line[strcspn(line, "\n")] = 0;
		answer(commands, line, &reply);
		print_line(&reply);
	}
}

int main(int argc, char **argv)
{
	struct text reply = { 0 };
	int status;

	(void)argv;
	if (argc != 1) {
		fprintf(stderr, "usage: driven_vm < LINES\n");
		return 2;
	}
	make_ledger();
	const pid_t pid = fork();

	if (!pid) {
		live(stdin);
		return 0;
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		cannot("wait for the VMM");
	if (has_ended_by_line())
		look_at_frames(&reply);
	else if (WIFSIGNALED(status))
		fprintf(stderr, "the VMM ended by signal %d\n", WTERMSIG(status));
	return has_ended_by_line() || (WIFEXITED(status) && !WEXITSTATUS(status)) ? 0 : 1;
}
