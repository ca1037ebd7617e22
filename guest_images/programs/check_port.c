// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_port - sends a seeded pattern through a port of the machine, whose far end gives it back, and compares.
 *
 * usage: check_port PATH BYTES [SEED]      PATH: a serial port or a port of virtio-serial
 *
 * echo_port is the far end, and prints the hash of what it received.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <termios.h>

#include "lib/exchange.h"

int main(int argc, char **argv)
{
	struct termios how;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: check_port PATH BYTES [SEED]\n");
		return 2;
	}
	uint64_t total = number_argument(argc, argv, 2, 0);
	uint64_t seed = number_argument(argc, argv, 3, clock_ns(CLOCK_REALTIME));
	int fd = open(argv[1], O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		cannot("open the port");
	/* A serial port is a terminal, which would change what goes through. */
	if (isatty(fd)) {
		if (tcgetattr(fd, &how))
			cannot("learn how the port is set");
		cfmakeraw(&how);
		how.c_cflag |= CLOCAL;
		if (cfsetspeed(&how, B115200) || tcsetattr(fd, TCSAFLUSH, &how))
			cannot("set the port");
	}
	exchange("the port gives back what was sent", fd, total, seed);
	return 0;
}
