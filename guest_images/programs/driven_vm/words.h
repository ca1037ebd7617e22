/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DRIVEN_VM_WORDS_H
#define DRIVEN_VM_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "../lib/line_server.h"

#define ARENA_PAGES 64u

/* The VMM's memory that lines are about. */
extern unsigned char *arena;

/* Ends the program if the word is no number. */
uint64_t number_of(const char *word);

/* The page of the arena that has this number. */
unsigned char *place_of(const char *word);

bool is_emulated(const char *word);

void add_result(struct text *reply, const char *result);

/* "ok", or the errno's name. */
void add_error(struct text *reply, int error);

/* A member of a list: the i-th. */
void add_each(struct text *reply, unsigned int i, const char *result);

#endif
