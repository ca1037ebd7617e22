// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All programs in one, which does what the name says that it was called by. The Makefile makes programs.h: a line
 * PROGRAM(name) for each of them, and has each one's main() called name_main().
 */
#include <stdio.h>
#include <string.h>

#define PROGRAM(name) int name##_main(int argc, char **argv);
#include "programs.h"
#undef PROGRAM

int main(int argc, char **argv)
{
	const char *path = argc ? argv[0] : "", *slash = strrchr(path, '/');
	const char *called = slash ? slash + 1 : path;

#define PROGRAM(name) \
	if (!strcmp(called, #name)) \
		return name##_main(argc, argv);
#include "programs.h"
	fprintf(stderr, "no such program: %s\n", called);
	return 127;
}
