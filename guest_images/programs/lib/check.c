// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "check.h"

void cannot(const char *what)
{
	fprintf(stderr, "cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

void print_line(struct text *t)
{
	fwrite(t->data, 1, t->len, stdout);
	putchar('\n');
	fflush(stdout);
	t->len = 0;
}

void begin_check(struct text *t, const char *name)
{
	text_add(t, "{\"name\":");
	text_add_string(t, name);
}

void add_hex_number(struct text *t, uint64_t value, int digits)
{
	text_add(t, "\"0x%0*llx\"", digits, (unsigned long long)value);
}

void add_hex_list(struct text *t, const char *key, const uint64_t *values, int count, int digits)
{
	text_add(t, ",\"%s\":[", key);
	for (int i = 0; i < count; i++) {
		text_add(t, i ? "," : "");
		add_hex_number(t, values[i], digits);
	}
	text_add(t, "]");
}

uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t fnv1a64(uint64_t hash, const void *bytes, size_t len)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ b[i]) * 0x100000001b3;
	return hash;
}

uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t number_argument(int argc, char **argv, int index, uint64_t otherwise)
{
	uint64_t value = otherwise;

	if (argc > index && !parse_number(argv[index], &value)) {
		fprintf(stderr, "not a number: %s\n", argv[index]);
		exit(2);
	}
	return value;
}
