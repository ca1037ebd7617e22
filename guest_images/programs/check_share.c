// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_share - shares a page with the host and takes it back, many times, and looks at its content each time
 *
 * usage: check_share [ROUNDS] [SEED]       64 rounds by default
 *
 * Once with a page of the caller's, once with one of the kernel's. Needs the module guest_canary. In a guest that is
 * not protected there is nothing to share: the rounds are made all the same.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

static void fill(uint64_t *page, uint64_t seed)
{
	for (size_t i = 0; i < SEALPROOF_PAGE_BYTES / sizeof(*page); i++)
		page[i] = next_random(&seed);
}

static void request(int fd, unsigned long command, struct sealproof_canary *canary, const char *what)
{
	canary->state = 0;
	if (ioctl(fd, command, canary))
		cannot(what);
}

static void report(const char *name, uint64_t rounds, uint64_t whole)
{
	struct text t = { 0 };

	begin_check(&t, name);
	text_add(&t, ",\"expected\":\"%llu rounds\",\"got\":\"%llu rounds\"}", (unsigned long long)rounds,
		 (unsigned long long)whole);
	print_line(&t);
}

int main(int argc, char **argv)
{
	uint64_t rounds = number_argument(argc, argv, 1, 64);
	uint64_t seed = number_argument(argc, argv, 2, clock_ns(CLOCK_REALTIME));
	static uint64_t pattern[SEALPROOF_PAGE_BYTES / 8], seen[SEALPROOF_PAGE_BYTES / 8];
	struct sealproof_canary user = { .slot = 0 }, kernel = { .slot = 1 };
	uint64_t whole_user = 0, whole_kernel = 0;
	int fd = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);
	void *page = mmap(NULL, SEALPROOF_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || page == MAP_FAILED)
		cannot("open the module's device or get a page");
	for (uint64_t i = 0; i < rounds; i++) {
		fill(pattern, seed + i);
		memcpy(page, pattern, sizeof(pattern));
		user.buffer = (uintptr_t)page;
		request(fd, SEALPROOF_CANARY_SHARE, &user, "share a page of the caller's");
		int is_intact = !memcmp(page, pattern, sizeof(pattern));

		request(fd, SEALPROOF_CANARY_UNSHARE, &user, "take back a page of the caller's");
		whole_user += is_intact && !memcmp(page, pattern, sizeof(pattern));

		kernel.buffer = 0;
		request(fd, SEALPROOF_CANARY_SHARE, &kernel, "share a page of the kernel's");
		kernel.buffer = (uintptr_t)pattern;
		request(fd, SEALPROOF_CANARY_PLANT, &kernel, "fill a page of the kernel's");
		kernel.buffer = 0;
		request(fd, SEALPROOF_CANARY_UNSHARE, &kernel, "take back a page of the kernel's");
		kernel.buffer = (uintptr_t)seen;
		request(fd, SEALPROOF_CANARY_READ, &kernel, "read a page of the kernel's");
		whole_kernel += !memcmp(seen, pattern, sizeof(pattern));
	}
	report("a page of a process keeps its content, shared and taken back", rounds, whole_user);
	report("a page of the kernel keeps its content, shared and taken back", rounds, whole_kernel);
	return 0;
}
