// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first program of a host of Bochs's, which has no disk that the kernel knows: what
 * QEMU's hosts have on two disks is two files of the initramfs beside this one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void require(int result, const char *what)
{
	if (!result)
		return;
	perror(what);
	exit(1);
}

static void load(const char *path)
{
	const int file = open(path, O_RDONLY | O_CLOEXEC);

	require(file < 0, path);
	require((int)syscall(SYS_finit_module, file, "", 0), path);
	close(file);
}

int main(void)
{
	char *const next[] = { "/payload/host/init", NULL };

	require(mkdir("/host", 0755), "mkdir");
	require(mount("/root.erofs", "/host", "erofs", MS_RDONLY, NULL), "/root.erofs");
	require(mount("/payload.erofs", "/host/payload", "erofs", MS_RDONLY, NULL), "/payload.erofs");
	load("/e1000.ko");
	load("/host/payload/modules/host_bochs.ko");
	require(chdir("/host"), "chdir");
	require(mount(".", "/", NULL, MS_MOVE, NULL), "move");
	require(chroot("."), "chroot");
	execv(next[0], next);
	perror(next[0]);
	return 1;
}
