// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kexec_into - loads a kernel from files and, a moment later, starts it in the place of the running one
 *
 * usage: kexec_into KERNEL INITRD COMMAND_LINE [crash]      prints {"loaded":true}
 *
 * crash: the kernel is not started, but takes over when the running one crashes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <time.h>

#include "check.h"

int main(int argc, char **argv)
{
	const struct timespec moment = { .tv_nsec = 300000000 };	/* the answer gets out */

	bool crash = argc == 5 && !strcmp(argv[4], "crash");

	if (argc != 4 && !crash) {
		fprintf(stderr, "usage: kexec_into KERNEL INITRD COMMAND_LINE [crash]\n");
		return 2;
	}
	int kernel = open(argv[1], O_RDONLY | O_CLOEXEC), initrd = open(argv[2], O_RDONLY | O_CLOEXEC);

	if (kernel < 0 || initrd < 0)
		cannot("open kernel or initrd");
	unsigned long flags = crash ? KEXEC_FILE_ON_CRASH : 0;

	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], flags))
		cannot("load the kernel");
	puts("{\"loaded\":true}");
	fflush(stdout);
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
