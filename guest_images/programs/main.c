// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All programs in one, which does what the name says that it was called by. The Makefile makes program_names.h: a line
 * PROGRAM(name) for each of them, and has each one's main() called name_main().
 */
#include <stdio.h>
#include <string.h>

#include "programs.h"

#define PROGRAM(name) int name##_main(int argc, char **argv);
#include "program_names.h"
#undef PROGRAM

program *program_of(const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
#define PROGRAM(one) \
	if (!strcmp(*name, #one)) \
		return one##_main;
#include "program_names.h"
	return NULL;
}

int main(int argc, char **argv)
{
	/* A login shell is called by its name with a dash before it. */
	const char *called = argc ? argv[0] : "", *name;
	program *run = program_of(*called == '-' ? called + 1 : called, &name);

	if (run)
		return run(argc, argv);
	fprintf(stderr, "no such program: %s\n", name);
	return 127;
}
