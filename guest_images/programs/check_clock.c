// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_clock - kvm-clock is offered, and time goes forward at the right rate.
 *
 * usage: check_clock [SOURCE]
 *
 * SOURCE (for instance kvm-clock) becomes the current clocksource while the checks run, and the former one comes back
 * after them; without it the current one is checked as it is.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "lib/check.h"

#define FOLDER "/sys/devices/system/clocksource/clocksource0/"
#define SLEEP_NS 200000000ull
#define MOST_NS 5000000000ull	/* a loaded machine sleeps longer, never shorter */
#define READS 20000
/* Two clocks of one machine, read at the same moments around a sleep of 0.2 s: within 1 % and 20 ms. */
#define SLACK_NS 20000000ull
#define TRIES 32

static void read_line(const char *name, char *line, size_t size)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), FOLDER "%s", name);
	file = fopen(path, "re");
	if (!file || !fgets(line, (int)size, file))
		cannot("read the clocksources");
	line[strcspn(line, "\n")] = 0;
	fclose(file);
}

static bool select_source(const char *name)
{
	int fd = open(FOLDER "current_clocksource", O_WRONLY | O_CLOEXEC);
	ssize_t len = (ssize_t)strlen(name);
	bool good = fd >= 0 && write(fd, name, (size_t)len) == len;

	if (fd >= 0)
		close(fd);
	return good;
}

static bool has_word(const char *line, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = line; (at = strstr(at, word)); at += len) {
		if ((at == line || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	}
	return false;
}

static void begin_bool(struct text *t, const char *name, bool expected, bool got)
{
	begin_check(t, name);
	text_add(t, ",\"expected\":%s,\"got\":%s", expected ? "true" : "false", got ? "true" : "false");
}

struct moment {
	uint64_t adjusted, raw, width;
};

/*
 * Both clocks at one moment, as good as can be had: a busy machine may stop us between two readings for longer than the
 * clocks may differ. So the raw one is read between two readings of the other, until these are close together.
 */
static struct moment both_clocks(void)
{
	struct moment best = { .width = UINT64_MAX };

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = clock_ns(CLOCK_MONOTONIC), raw = clock_ns(CLOCK_MONOTONIC_RAW);
		uint64_t width = clock_ns(CLOCK_MONOTONIC) - before;

		if (width < best.width)
			best = (struct moment){ before + width / 2, raw, width };
	}
	return best;
}

int main(int argc, char **argv)
{
	char available[256], before[64], current[64];
	struct timespec pause = { .tv_nsec = SLEEP_NS };
	struct text t = { 0 };
	long backward = 0;

	if (argc > 2) {
		fprintf(stderr, "usage: check_clock [SOURCE]\n");
		return 2;
	}
	read_line("available_clocksource", available, sizeof(available));
	read_line("current_clocksource", before, sizeof(before));
	if (argc == 2 && !select_source(argv[1]))
		cannot("select the clocksource");
	read_line("current_clocksource", current, sizeof(current));

	uint64_t last = clock_ns(CLOCK_MONOTONIC);

	for (int i = 0; i < READS; i++) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC);

		backward += now < last;
		last = now;
	}
	struct moment start = both_clocks();

	while (nanosleep(&pause, &pause) && errno == EINTR)
		continue;
	struct moment end = both_clocks();
	uint64_t elapsed = end.adjusted - start.adjusted, raw_elapsed = end.raw - start.raw;
	uint64_t apart = elapsed > raw_elapsed ? elapsed - raw_elapsed : raw_elapsed - elapsed;

	if (argc == 2 && !select_source(before))
		cannot("bring the former clocksource back");

	begin_bool(&t, "kvm-clock is offered", true, has_word(available, "kvm-clock"));
	text_add(&t, ",\"available\":");
	text_add_string(&t, available);
	text_add(&t, ",\"current\":");
	text_add_string(&t, current);
	text_add(&t, "}");
	print_line(&t);
	if (argc == 2) {
		begin_check(&t, "the clocksource in use");
		text_add(&t, ",\"expected\":");
		text_add_string(&t, argv[1]);
		text_add(&t, ",\"got\":");
		text_add_string(&t, current);
		text_add(&t, "}");
		print_line(&t);
	}
	begin_check(&t, "the clock never goes back");
	text_add(&t, ",\"expected\":0,\"got\":%ld,\"reads\":%d,\"source\":", backward, READS);
	text_add_string(&t, current);
	text_add(&t, "}");
	print_line(&t);
	begin_bool(&t, "a sleep of 200 ms takes 200 ms to 5 s", true, elapsed >= SLEEP_NS && elapsed <= MOST_NS);
	text_add(&t, ",\"elapsed_ns\":%lu}", elapsed);
	print_line(&t);
	begin_bool(&t, "the adjusted and the raw clock agree within 1 % and 20 ms", true,
		   apart <= raw_elapsed / 100 + SLACK_NS);
	text_add(&t, ",\"elapsed_ns\":%lu,\"raw_elapsed_ns\":%lu,\"read_within_ns\":%lu}", elapsed, raw_elapsed,
		 start.width > end.width ? start.width : end.width);
	print_line(&t);
	return 0;
}
