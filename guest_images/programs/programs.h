// SPDX-License-Identifier: GPL-2.0-or-later
/* The programs by their names (main.c). */
#ifndef PROGRAMS_H
#define PROGRAMS_H

typedef int program(int argc, char **argv);

/* What a path's last part names, and that part itself; NULL: none of these programs. */
program *program_of(const char *path, const char **name);

#endif
