// SPDX-License-Identifier: GPL-2.0-or-later
/* What the frames of the VMM hold when it has ended. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "../lib/check.h"
#include "child.h"
#include "ledger.h"
#include "operations.h"
#include "page.h"
#include "words.h"

#define FRAMES 512u		/* of which is known what becomes of them */

/* What becomes of the frames that the process had, for the parent to look. */
struct ledger {
	bool has_ended;	/* as a line said */
	uint32_t count;
	uint64_t frame[FRAMES];
};

static struct ledger *ledger;

void make_ledger(void)
{
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ledger == MAP_FAILED)
		cannot("map memory");
}

bool has_ended_by_line(void)
{
	return ledger->has_ended;
}

static void note_frames(void)
{
	for (unsigned int i = 0; i < ARENA_PAGES && ledger->count < FRAMES; i++) {
		const uint64_t frame = frame_of(arena + i * PAGE);

		if (frame)
			ledger->frame[ledger->count++] = frame;
	}
}

/* end kill|exit: how the process is to end, after which its frames are looked at */
void do_end(int argc, char **args, struct text *reply)
{
	(void)argc;
	kill_child();
	note_frames();
	ledger->has_ended = true;
	(void)reply;
	fflush(stdout);
	if (!strcmp(args[0], "kill"))
		kill(getpid(), SIGKILL);
	_exit(0);
}

/* The numbers of marks that a frame holds, wherever they are in it. */
static void add_marks(struct text *reply, bool *any)
{
	uint32_t last = 0;

	for (unsigned int i = 0; i < PAGE / 4; i++) {
		const uint32_t word = ((const uint32_t *)(void *)page_buffer)[i];

		if ((word & ~NUMBER) != MARK || word == last)
			continue;
		text_add(reply, "%s%u", *any ? "," : "", word & NUMBER);
		*any = true;
		last = word;
	}
}

void look_at_frames(struct text *reply)
{
	bool any = false;
	unsigned int kept = 0;

	text_add(reply, "{\"marks\":[");
	for (uint32_t i = 0; i < ledger->count; i++) {
		if (read_frame(ledger->frame[i]))
			add_marks(reply, &any);
		else
			kept++;
	}
	text_add(reply, "],\"frames\":%u,\"kept\":%u}", ledger->count, kept);
	print_line(reply);
}
