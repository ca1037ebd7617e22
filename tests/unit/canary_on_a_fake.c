// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program canary with the module guest_canary, the random number generator's ioctls and pagemap played here.
 *
 * FAKE_MODULE: "plain", "protected", or "protected" and a request that fails with ENOLCK: "protected share". Standard
 * error gets a line for each request: "<request> <slot> <the first 8 bytes at its buffer>".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../guest_images/modules/sealproof_uapi.h"

#define DEVICE 1000
#define PAGEMAP 1001

static unsigned char own[SEALPROOF_CANARY_SLOTS][SEALPROOF_PAGE_BYTES];
static int shared[SEALPROOF_CANARY_SLOTS];

static int fake_open(const char *path, int flags)
{
	if (!strcmp(path, "/dev/" SEALPROOF_CANARY_NAME))
		return DEVICE;
	return !strcmp(path, "/proc/self/pagemap") ? PAGEMAP : open(path, flags);
}

static ssize_t fake_pread(int fd, void *bytes, size_t len, off_t at)
{
	uint64_t entry = 1ull << 63 | (uint64_t)at / sizeof(entry);

	if (fd != PAGEMAP)
		return pread(fd, bytes, len, at);
	memcpy(bytes, &entry, sizeof(entry));
	return sizeof(entry);
}

static int answer_request(const char *name, int requested, struct sealproof_canary *request)
{
	const char *fake = getenv("FAKE_MODULE");
	uint64_t head = 0;

	if (request->buffer && strcmp(name, "read"))
		memcpy(&head, (void *)request->buffer, sizeof(head));
	fprintf(stderr, "%s %u %016lx\n", name, request->slot, (unsigned long)__builtin_bswap64(head));
	if (strchr(fake, ' ') && !strcmp(strchr(fake, ' ') + 1, name)) {
		errno = ENOLCK;
		return -1;
	}
	if (requested == 1)
		memcpy(own[request->slot], (void *)request->buffer, SEALPROOF_PAGE_BYTES);
	else if (requested == 2)
		memcpy((void *)request->buffer, own[request->slot], SEALPROOF_PAGE_BYTES);
	else if (requested == 3)
		shared[request->slot] = 1;
	else if (requested == 4)
		shared[request->slot] = 0;
	request->gpa = 0x1000 * (request->slot + 1);
	request->state = shared[request->slot] ? SEALPROOF_SHARED : SEALPROOF_PRIVATE;
	if (!strncmp(fake, "plain", 5))
		request->state = SEALPROOF_PLAIN;
	return 0;
}

static int fake_ioctl(int fd, unsigned long command, ...)
{
	static const char *const names[] = { "", "plant", "read", "share", "unshare", "state" };
	va_list args;

	va_start(args, command);
	void *arg = va_arg(args, void *);

	va_end(args);
	if (fd != DEVICE)
		return 0;	/* the seed: this machine's own generator is left alone */
	return answer_request(names[_IOC_NR(command)], _IOC_NR(command), arg);
}

#define open fake_open
#define pread fake_pread
#define ioctl fake_ioctl
#include "../../guest_images/programs/canary.c"
