// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kexec_into - loads a kernel from files and, a moment later, starts it in the place of the running one
 *
 * usage: kexec_into KERNEL INITRD COMMAND_LINE [crash]   prints {"loaded":true}
 *        kexec_into --load KERNEL INITRD COMMAND_LINE    the same, but whoever takes the system down in order starts it;
 *                                                        INITRD "-": it has none
 *        kexec_into --unload                             prints {"loaded":false}
 *
 * crash: the kernel is not started, but takes over when the running one crashes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <time.h>

#include "lib/check.h"

static int opened(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		cannot(path);
	return fd;
}

static void load(char **args, unsigned long flags)
{
	bool bare = !strcmp(args[1], "-");
	int kernel = opened(args[0]), initrd = bare ? -1 : opened(args[1]);

	if (bare)
		flags |= KEXEC_FILE_NO_INITRAMFS;
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(args[2]) + 1, args[2], flags))
		cannot("load the kernel");
	puts("{\"loaded\":true}");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct timespec moment = { .tv_nsec = 300000000 };	/* the answer gets out */
	bool crash = argc == 5 && !strcmp(argv[4], "crash");

	if (argc == 2 && !strcmp(argv[1], "--unload")) {
		if (syscall(SYS_kexec_file_load, -1, -1, 0L, NULL, KEXEC_FILE_UNLOAD))
			cannot("unload the kernel");
		puts("{\"loaded\":false}");
		return 0;
	}
	if (argc == 5 && !strcmp(argv[1], "--load")) {
		load(argv + 2, 0);
		return 0;
	}
	if (argc != 4 && !crash) {
		fprintf(stderr, "usage: kexec_into [--load] KERNEL INITRD COMMAND_LINE [crash] | --unload\n");
		return 2;
	}
	load(argv + 1, crash ? KEXEC_FILE_ON_CRASH : 0);
	if (crash)
		return 0;
	pid_t child = fork();

	if (child < 0)
		cannot("fork");
	if (child)
		return 0;
	setsid();
	for (int fd = 0; fd < 3; fd++)
		close(fd);	/* whoever waits for our output need not wait for us */
	nanosleep(&moment, NULL);
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return 1;
}
