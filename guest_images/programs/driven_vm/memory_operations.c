// SPDX-License-Identifier: GPL-2.0-or-later
/* What the VMM does with its memory. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "../lib/check.h"
#include "operations.h"
#include "page.h"
#include "words.h"

/* store PLACE PAGES NUMBER: by the VMM */
void do_store(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number_of(args[1]); i++)
		add_each(reply, i, store_result(place_of(args[0]) + i * PAGE, (uint32_t)(number_of(args[2]) + i)));
	text_add(reply, "]");
}

/* map PLACE PAGES NUMBER: other memory, filled */
void do_map(int argc, char **args, struct text *reply)
{
	unsigned char *const where = place_of(args[0]);
	const uint64_t pages = number_of(args[1]);
	const bool there = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				0) == where;

	(void)argc;
	add_error(reply, there ? 0 : errno);
	for (unsigned int i = 0; there && i < pages; i++)
		mark_page(where + i * PAGE, (uint32_t)(number_of(args[2]) + i));
}

void do_unmap(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, munmap(place_of(args[0]), number_of(args[1]) * PAGE) ? errno : 0);
}

/* move FROM TO all|content: one page by mremap(), with its mapping or without */
void do_move(int argc, char **args, struct text *reply)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (strcmp(args[2], "content") ? 0 : MREMAP_DONTUNMAP);

	(void)argc;
	add_error(reply, mremap(place_of(args[0]), PAGE, PAGE, flags, place_of(args[1])) == MAP_FAILED ? errno : 0);
}

/* protect PLACE PAGES none|read|write: mprotect() */
void do_protect(int argc, char **args, struct text *reply)
{
	const int rights = !strcmp(args[2], "none") ? PROT_NONE :
			   !strcmp(args[2], "read") ? PROT_READ : PROT_READ | PROT_WRITE;

	(void)argc;
	add_error(reply, mprotect(place_of(args[0]), number_of(args[1]) * PAGE, rights) ? errno : 0);
}

void do_advise(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, madvise(place_of(args[0]), number_of(args[1]) * PAGE, (int)number_of(args[2])) ? errno : 0);
}
