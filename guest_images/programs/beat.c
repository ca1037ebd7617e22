// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * beat - a heartbeat: a line every so often, so that a stalled machine is noticed from outside.
 *
 * usage: beat PATH INTERVAL_MS             writes "<n>" to PATH, and no more: each byte to a serial port
 *                                          costs a guest's host an exit or two
 *        beat PATH INTERVAL_MS NAME=GUEST_PATH ..
 *                                          writes "host=<n> NAME=<n> ..", the latter the last that GUEST_PATH told
 *
 * PATH: a serial port, a virtio-serial port, a FIFO or a file; GUEST_PATH: a FIFO or a file that another beat's lines
 * come to ("NAME=-1": none so far, or the file is gone). Neither a full port nor a reader that is gone ever blocks or
 * ends it: beats that cannot be written are left out, and n shows the gap.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "lib/check.h"

#define MAX_GUESTS 4
#define MAX_NAME 32
#define NUMBER_BYTES 21	/* of 64 bits in decimal, with its sign and what comes before it */
#define LINE_BYTES (64 + MAX_GUESTS * (MAX_NAME + 2 + NUMBER_BYTES))

struct port {
	const char *path;
	int flags;
	int fd;		/* -1: not open now */
	char line[LINE_BYTES];
	size_t len;	/* of line: what is still to be written, or the start of a line that was read */
};

/* Another beat, of a guest. */
struct guest {
	const char *name;
	struct port port;
	long long last;	/* what it told; -1: nothing so far */
};

static bool is_open(struct port *p)
{
	if (p->fd < 0) {
		p->fd = open(p->path, p->flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		p->len = 0;
	}
	return p->fd >= 0;
}

static void shut(struct port *p)
{
	close(p->fd);
	p->fd = -1;
}

/* Writes what is left of the last line, then, if that went, the new one. A torn line is thus always completed. */
static void write_beat(struct port *p, const char *line)
{
	if (!is_open(p))
		return;
	for (bool fresh = false;;) {
		if (!p->len) {
			if (fresh)
				return;
			p->len = strlen(line);
			memcpy(p->line, line, p->len);
			fresh = true;
		}
		ssize_t n = write(p->fd, p->line, p->len);

		if (n < 0 && errno == EAGAIN) {
			if (fresh)
				p->len = 0;	/* nothing of it was written: the next beat is newer */
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			shut(p);
			return;
		}
		memmove(p->line, p->line + n, p->len - (size_t)n);
		p->len -= (size_t)n;
		if (p->len)
			return;		/* full for now; the rest goes first next time */
	}
}

/* Whether a file is gone, though we have it open still: its machine is, and another one may get a new file. */
static bool is_gone(int fd)
{
	struct stat status;

	return !fstat(fd, &status) && S_ISREG(status.st_mode) && !status.st_nlink;
}

/* Reads all that has come; *last becomes the number that the last whole line begins with, -1 once its file is gone. */
static void read_beats(struct port *p, long long *last)
{
	while (is_open(p)) {
		ssize_t n = read(p->fd, p->line + p->len, sizeof(p->line) - 1 - p->len);

		if (n <= 0) {
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				shut(p);
			if (!n && is_gone(p->fd)) {
				shut(p);
				*last = -1;
			}
			return;
		}
		p->len += (size_t)n;
		p->line[p->len] = 0;
		for (char *end; (end = memchr(p->line, '\n', p->len));) {
			long long number;
			char after;

			if (sscanf(p->line, "%lld%c", &number, &after) == 2 && isspace((unsigned char)after))
				*last = number;
			p->len -= (size_t)(end + 1 - p->line);
			memmove(p->line, end + 1, p->len + 1);
		}
		if (p->len == sizeof(p->line) - 1)
			p->len = 0;	/* no line is so long: noise */
	}
}

/* Takes NAME=PATH apart. */
static bool parse_guest(char *word, struct guest *guest)
{
	char *path = strchr(word, '=');

	if (!path || path == word || path - word > MAX_NAME || !path[1])
		return false;
	*path++ = 0;
	*guest = (struct guest){ .name = word, .port = { .path = path, .flags = O_RDONLY, .fd = -1 }, .last = -1 };
	return true;
}

int main(int argc, char **argv)
{
	struct port out = { .flags = O_WRONLY | O_APPEND, .fd = -1 };
	struct guest guests[MAX_GUESTS];
	int count = argc - 3;
	bool good = count >= 0 && count <= MAX_GUESTS;

	for (int i = 0; i < count && good; i++)
		good = parse_guest(argv[i + 3], &guests[i]);
	if (!good) {
		fprintf(stderr, "usage: beat PATH INTERVAL_MS [NAME=GUEST_PATH ..]; at most %d\n", MAX_GUESTS);
		return 2;
	}
	uint64_t ms = number_argument(argc, argv, 2, 0), missed;

	out.path = argv[1];
	struct timespec interval = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
	struct itimerspec schedule = { .it_interval = interval, .it_value = interval };
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (!ms || ms > 3600000) {
		fprintf(stderr, "INTERVAL_MS is 1 to 3600000\n");
		return 2;
	}
	if (timer < 0 || timerfd_settime(timer, 0, &schedule, NULL))
		cannot("set a timer");
	signal(SIGPIPE, SIG_IGN);
	for (unsigned long n = 0;; n++) {
		char line[LINE_BYTES];
		size_t len;

		len = sprintf(line, count ? "host=%lu" : "%lu", n);
		for (int i = 0; i < count; i++) {
			read_beats(&guests[i].port, &guests[i].last);
			len += sprintf(line + len, " %s=%lld", guests[i].name, guests[i].last);
		}
		strcpy(line + len, "\n");
		write_beat(&out, line);
		while (read(timer, &missed, sizeof(missed)) < 0 && errno == EINTR)
			continue;
	}
}
