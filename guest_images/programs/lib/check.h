/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's checks share: how a check is printed, seeded values, a hash, a clock.
 *
 * A check prints one JSON object a line: {"name":..,"expected":..,"got":..}, with more fields where they help. It never
 * judges: whoever reads compares expected with got. Exit status 0: it ran; 1: it could not, and stderr says why.
 */
#ifndef CHECK_H
#define CHECK_H

#include <time.h>

#include "line_server.h"

/* Ends the program with what failed and errno. */
__attribute__((noreturn)) void cannot(const char *what);

void print_line(struct text *t);

/* Opens a check's object; the caller adds "expected" and "got" and closes it. */
void begin_check(struct text *t, const char *name);

void add_hex_number(struct text *t, uint64_t value, int digits);

/* Appends ,"key":["0x..",..]. */
void add_hex_list(struct text *t, const char *key, const uint64_t *values, int count, int digits);

/* splitmix64 (public domain, S. Vigna): the next of a sequence that the seed determines. */
uint64_t next_random(uint64_t *state);

/* FNV-1a, 64 bits. Start with FNV_START, feed any number of times. */
#define FNV_START 0xcbf29ce484222325
uint64_t fnv1a64(uint64_t hash, const void *bytes, size_t len);

uint64_t clock_ns(clockid_t clock);

/* The number in an argument, or `otherwise` when it is not given. */
uint64_t number_argument(int argc, char **argv, int index, uint64_t otherwise);

#endif
