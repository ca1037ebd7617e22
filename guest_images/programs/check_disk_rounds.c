// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_disk_rounds - rewrites a block device again and again with other content, and reads all of it back each time
 *
 * usage: check_disk_rounds PATH MIB ROUNDS DEPTH [SEED]      what was on PATH is lost
 *
 * DEPTH requests are under way at a time, past the page cache (O_DIRECT, io_submit), in an order that jumps about. 0:
 * through the page cache, which is dropped before it is read. Each block differs from all others, and from itself in
 * another round, in every word: one that is torn, stale or in a wrong place shows.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>

#include "lib/check.h"

#define BLOCK (128u << 10)
#define WORDS (BLOCK / sizeof(uint64_t))
#define ALIGNMENT 4096
#define MOST 64		/* requests under way */
#define STRIDE 37	/* from one block to the next: a number that no number of MiB divides */

static uint64_t base[WORDS];
static uint64_t *buffers[MOST];
static uint64_t seed, blocks;
static int fd;

static uint64_t key(uint64_t round, uint64_t block)
{
	uint64_t state = seed ^ (round << 32 | block);

	return next_random(&state);
}

static void fill(uint64_t *words, uint64_t with)
{
	for (size_t i = 0; i < WORDS; i++)
		words[i] = base[i] ^ with;
}

static bool is_whole(const uint64_t *words, uint64_t with)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < WORDS; i++)
		wrong |= words[i] ^ base[i] ^ with;
	return !wrong;
}

static uint64_t place(uint64_t number)
{
	return number * STRIDE % blocks;
}

/* All blocks by io_submit, `depth` of them under way; returns how many were read whole. */
static uint64_t direct(aio_context_t context, uint64_t round, uint64_t depth, bool write)
{
	static struct iocb requests[MOST];
	struct io_event events[MOST];
	uint64_t started = 0, done = 0, whole = 0, slots[MOST], free_slots = 0;

	while (free_slots < depth) {
		slots[free_slots] = free_slots;
		free_slots++;
	}
	while (done < blocks) {
		while (started < blocks && free_slots) {
			uint64_t slot = slots[--free_slots], block = place(started++);
			struct iocb *request = &requests[slot];

			*request = (struct iocb){
				.aio_data = slot << 32 | block,
				.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				.aio_fildes = (uint32_t)fd,
				.aio_buf = (uintptr_t)buffers[slot],
				.aio_nbytes = BLOCK,
				.aio_offset = (int64_t)(block * BLOCK),
			};
			if (write)
				fill(buffers[slot], key(round, block));
			else
				memset(buffers[slot], 0, BLOCK);
			if (syscall(SYS_io_submit, context, 1L, &request) != 1)
				cannot("submit a request");
		}
		long got = syscall(SYS_io_getevents, context, 1L, (long)MOST, events, NULL);

		if (got < 1)
			cannot("wait for a request");
		for (long i = 0; i < got; i++) {
			uint64_t slot = events[i].data >> 32, block = events[i].data & UINT32_MAX;

			if (events[i].res != (int64_t)BLOCK) {
				errno = events[i].res < 0 ? (int)-events[i].res : EIO;
				cannot(write ? "write a block" : "read a block");
			}
			whole += !write && is_whole(buffers[slot], key(round, block));
			slots[free_slots++] = slot;
			done++;
		}
	}
	return whole;
}

static uint64_t cached(uint64_t round, bool write)
{
	uint64_t whole = 0;

	for (uint64_t i = 0; i < blocks; i++) {
		off_t at = (off_t)(place(i) * BLOCK);

		if (write)
			fill(buffers[0], key(round, place(i)));
		else
			memset(buffers[0], 0, BLOCK);
		if ((write ? pwrite(fd, buffers[0], BLOCK, at) : pread(fd, buffers[0], BLOCK, at)) != (ssize_t)BLOCK)
			cannot(write ? "write a block" : "read a block");
		whole += !write && is_whole(buffers[0], key(round, place(i)));
	}
	return whole;
}

int main(int argc, char **argv)
{
	aio_context_t context = 0;
	struct text t = { 0 };
	uint64_t whole = 0;

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: check_disk_rounds PATH MIB ROUNDS DEPTH [SEED]\n");
		return 2;
	}
	uint64_t mib = number_argument(argc, argv, 2, 0), rounds = number_argument(argc, argv, 3, 0);
	uint64_t depth = number_argument(argc, argv, 4, 0), start = clock_ns(CLOCK_MONOTONIC);

	seed = number_argument(argc, argv, 5, clock_ns(CLOCK_REALTIME));
	blocks = mib * ((1u << 20) / BLOCK);
	if (!blocks || blocks % STRIDE == 0 || depth > MOST) {
		fprintf(stderr, "MIB: not 0, nor a multiple of %d; DEPTH: at most %d\n", STRIDE, MOST);
		return 2;
	}
	uint64_t state = seed;

	for (size_t i = 0; i < WORDS; i++)
		base[i] = next_random(&state);
	for (uint64_t i = 0; i < (depth ? depth : 1); i++) {
		if (posix_memalign((void **)&buffers[i], ALIGNMENT, BLOCK)) {
			errno = ENOMEM;
			cannot("get memory");
		}
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC | (depth ? O_DIRECT : 0));
	if (fd < 0 || (depth && syscall(SYS_io_setup, MOST, &context)))
		cannot("open the device");
	for (uint64_t round = 0; round < rounds; round++) {
		if (depth)
			direct(context, round, depth, true);
		else
			cached(round, true);
		if (fsync(fd) || (errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)))
			cannot("flush the device");
		whole += depth ? direct(context, round, depth, false) : cached(round, false);
	}
	if (depth)
		text_add(&t, "{\"name\":\"blocks that come back as written, %lu requests under way\"", depth);
	else
		begin_check(&t, "blocks that come back as written, through the page cache");
	text_add(&t, ",\"expected\":%lu,\"got\":%lu,\"bytes\":%lu,\"elapsed_ns\":%lu}", rounds * blocks, whole,
		 rounds * blocks * BLOCK, clock_ns(CLOCK_MONOTONIC) - start);
	print_line(&t);
	return 0;
}
