// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What Bochs is given by LD_PRELOAD. The places named here are Bochs 2.7's.
 *
 * It saves its state on SIGUSR1, into the folder that SEALPROOF_SAVE names. Bochs
 * saves only where its user asks for it in a window, and Debian's display in a terminal
 * has none. So this stands in for wgetch(), by which that display asks for keys: in a
 * timer's turn, between two instructions, where Bochs's windows save as well
 * (iodev/devices.cc bx_devices_c::timer(), gui/term.cc handle_events(), gui/gui.cc
 * save_restore_handler()).
 *
 * It reads a file into the machine's memory as it should. Bochs has that memory in
 * blocks of 128 KiB, which lie in the order of their first use, and reads a file into
 * what follows a block (memory/misc_mem.cc load_RAM(), memory/memory-bochs.h
 * get_vector()). So nothing more than a block is read at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK (128u << 10)
#define NO_KEY -1	/* ncurses: ERR */
#define DRAWN 0		/* ncurses: OK */

typedef ssize_t reader(int file, void *where, size_t bytes);
typedef bool saver(void *simulator, const char *folder);

static volatile sig_atomic_t asked;

static void ask(int number)
{
	(void)number;
	asked = 1;
}

__attribute__((constructor)) static void listen_to_signal(void)
{
	signal(SIGUSR1, ask);
}

/* What became of it: a file "saved" with 1, or with 0. */
static void save(void)
{
	void **simulator = dlsym(RTLD_DEFAULT, "SIM");
	saver *state = (saver *)dlsym(RTLD_DEFAULT, "_ZN13bx_real_sim_c10save_stateEPKc");
	const char *folder = getenv("SEALPROOF_SAVE");
	char path[4096];
	FILE *result;
	bool done;

	if (!folder)
		return;
	done = simulator && state && state(*simulator, folder);
	snprintf(path, sizeof(path), "%s/saved", folder);
	result = fopen(path, "w");
	if (result) {
		fputs(done ? "1" : "0", result);
		fclose(result);
	}
}

int wgetch(void *window)
{
	(void)window;
	if (asked) {
		asked = 0;
		save();
	}
	return NO_KEY;
}

/*
 * That display goes to a pseudo-terminal of Bochs's own. When as much is written as it
 * holds, and nobody reads it, Bochs waits for good: after some minutes.
 */
int refresh(void)
{
	return DRAWN;
}

int curs_set(int how)
{
	return how;
}

ssize_t read(int file, void *where, size_t bytes)
{
	static reader *real;

	if (!real)
		real = (reader *)dlsym(RTLD_NEXT, "read");
	return real(file, where, bytes < BLOCK ? bytes : BLOCK);
}
