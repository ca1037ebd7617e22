// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A victim for puppeteer: each letter of its argument is something that it does in turn, checking itself.
 *
 * w works, n sleeps, p polls, f waits on a futex, r reads standard input; a: alarms come all the time. It ends when
 * standard input has something to read (with r: when it ends) and prints what it saw; status 1: it came to harm.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long bad, interrupted, rounds, alarms, queued, ticks;

static void on_alarm(int signo) { (void)signo; alarms++; }

static void on_queued(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)context;
	bad += info->si_code != SI_QUEUE || info->si_value.sival_int != 4711;
	queued++;
}

static void *tick(void *unused)
{
	for (;;) {
		struct timespec pause = { 0, 1000000 };
		nanosleep(&pause, NULL);
		ticks++;
	}
	return unused;
}

static unsigned long long work(void)
{
	unsigned long long x = 1;
	double d = 1;
	for (int i = 0; i < 20000; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		d = d * 1.0000001 + 0.5;
	}
	return x ^ (unsigned long long)d;
}

static long since(const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000000l + now.tv_nsec - start->tv_nsec;
}

int main(int argc, char **argv)
{
	const char *does = argc > 1 ? argv[1] : "w";
	const unsigned long long known = work();
	struct sigaction alarm = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct sigaction queue = { .sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval often = { { 0, 7000 }, { 0, 7000 } };
	sigset_t all, none;
	pthread_t thread;
	unsigned word = 0;
	int ends[2];
	char byte;

	sigaction(SIGALRM, &alarm, NULL);
	sigaction(SIGUSR1, &queue, NULL);
	sigfillset(&all);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_create(&thread, NULL, tick, NULL); /* takes no signals: they all come to the main thread */
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	if (pipe(ends))
		return 2;
	if (strchr(does, 'a'))
		setitimer(ITIMER_REAL, &often, NULL);
	puts("ready");
	fflush(stdout);
	for (;; rounds++) {
		struct timespec start, pause = { 0, 20000000 };
		struct pollfd quiet = { ends[0], POLLIN, 0 }, told = { 0, POLLIN, 0 };

		clock_gettime(CLOCK_MONOTONIC, &start);
		for (const char *c = does; *c; c++) {
			if (*c == 'w')
				bad += work() != known;
			if (*c == 'n') {
				while (nanosleep(&pause, &pause) && errno == EINTR)
					interrupted++;
				bad += since(&start) < 20000000;
			}
			if (*c == 'p') {
				int got = ppoll(&quiet, 1, &(struct timespec){ 0, 20000000 }, &none);
				interrupted += got < 0 && errno == EINTR;
				bad += got > 0 || (got < 0 && errno != EINTR);
			}
			if (*c == 'f') {
				long got = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0,
						   &(struct timespec){ 0, 20000000 }, NULL, 0);
				interrupted += got < 0 && errno == EINTR;
				bad += got != -1 || (errno != ETIMEDOUT && errno != EINTR);
			}
			if (*c == 'r' && read(0, &byte, 1) != 1)
				goto end;
		}
		if (!strchr(does, 'r') && poll(&told, 1, 0) > 0)
			break;
	}
end:
	printf("{\"bad\":%lu,\"interrupted\":%lu,\"rounds\":%lu,\"alarms\":%lu,\"queued\":%lu,\"ticks\":%lu}\n", bad,
	       interrupted, rounds, alarms, queued, ticks);
	return bad != 0;
}
