// SPDX-License-Identifier: GPL-2.0-or-later
/* The words of a line, and those of its reply. */
#include "../lib/check.h"
#include "page.h"
#include "words.h"

unsigned char *arena;

uint64_t number_of(const char *word)
{
	uint64_t value;

	if (!parse_number(word, &value)) {
		errno = EINVAL;
		cannot(word);
	}
	return value;
}

unsigned char *place_of(const char *word)
{
	return arena + number_of(word) * PAGE;
}

bool is_emulated(const char *word)
{
	return !strcmp(word, "emulated");
}

void add_result(struct text *reply, const char *result)
{
	text_add(reply, "\"%s\"", result);
}

void add_error(struct text *reply, int error)
{
	add_result(reply, error ? errno_name(error) : "ok");
}

void add_each(struct text *reply, unsigned int i, const char *result)
{
	text_add(reply, "%s\"%s\"", i ? "," : "", result);
}
