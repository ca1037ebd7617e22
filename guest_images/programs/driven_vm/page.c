// SPDX-License-Identifier: GPL-2.0-or-later
/* What a page of this process holds, as each way to it tells. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "../../modules/sealproof_uapi.h"
#include "../lib/check.h"
#include "page.h"

const char *page_name(const void *page)
{
	static char text[16];
	const uint32_t *const words = page;

	if (memcmp(words, words + 1, PAGE - 4))
		return "other";
	if (words[0] && (words[0] & ~NUMBER) != MARK)
		return "other";
	snprintf(text, sizeof(text), "%u", words[0] & NUMBER);
	return text;
}

void mark_page(void *page, uint32_t number)
{
	for (unsigned int i = 0; i < PAGE / 4; i++)
		((volatile uint32_t *)page)[i] = MARK | number;
}

const char *errno_name(int error)
{
	const char *const name = strerrorname_np(error);

	return name ? name : "unnamed";
}

sigjmp_buf after_fault;
const char *volatile fault_name;
unsigned char page_buffer[PAGE];

static void take_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	fault_name = number == SIGSEGV ? "SIGSEGV" : info->si_code == BUS_ADRERR ? "SIGBUS" : "SIGBUS-other";
	siglongjmp(after_fault, 1);
}

void catch_faults(void)
{
	struct sigaction on_fault = { .sa_sigaction = take_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &on_fault, NULL);
	sigaction(SIGSEGV, &on_fault, NULL);
}

const char *load_result(const void *page)
{
	static uint64_t copy[PAGE / 8];

	if (sigsetjmp(after_fault, 0))	/* the signals may come again: SA_NODEFER */
		return fault_name;
	for (unsigned int i = 0; i < PAGE / 8; i++)
		copy[i] = ((const volatile uint64_t *)page)[i];
	return page_name(copy);
}

const char *store_result(void *page, uint32_t number)
{
	if (sigsetjmp(after_fault, 0))
		return fault_name;
	mark_page(page, number);
	return "ok";
}

const char *write_result(const void *page)
{
	static int ends[2];

	if (!ends[0] && pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	const ssize_t done = write(ends[1], page, PAGE);

	if (done < 0) {
		const int error = errno;

		close(ends[0]);	/* what failed leaves an empty piece in the pipe, which has room for a few */
		close(ends[1]);
		ends[0] = 0;
		return errno_name(error);
	}
	if (read(ends[0], page_buffer, PAGE) != done)
		cannot("read from a pipe");
	return done == (ssize_t)PAGE ? page_name(page_buffer) : "short";
}

const char *process_vm_readv_result(const void *page)
{
	struct iovec here = { page_buffer, PAGE }, there = { (void *)(uintptr_t)page, PAGE };
	const ssize_t done = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return done < 0 ? errno_name(errno) : done == (ssize_t)PAGE ? page_name(page_buffer) : "short";
}

int open_path(const char *path, int flags)
{
	const int file = open(path, flags | O_CLOEXEC);

	if (file < 0)
		cannot(path);
	return file;
}

const char *proc_mem_result(const void *page)
{
	static int file;

	if (!file)
		file = open_path("/proc/self/mem", O_RDONLY);
	const ssize_t done = pread(file, page_buffer, PAGE, (off_t)(uintptr_t)page);

	return done < 0 ? errno_name(errno) : done == (ssize_t)PAGE ? page_name(page_buffer) : "short";
}

uint64_t frame_of(const void *page)
{
	static int file;
	uint64_t entry;

	if (!file)
		file = open_path("/proc/self/pagemap", O_RDONLY);
	if (pread(file, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * sizeof(entry))) != sizeof(entry))
		cannot("read /proc/self/pagemap");
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

bool read_frame(uint64_t frame)
{
	static int file;
	struct sealproof_attack attack = { .method = SEALPROOF_DIRECT_MAP_READ, .target = frame * PAGE, .length = PAGE,
					   .buffer = (uintptr_t)page_buffer };

	if (!file)
		file = open_path("/dev/" SEALPROOF_ATTACK_NAME, O_RDWR);
	if (ioctl(file, SEALPROOF_ATTACK, &attack))
		cannot("have the attack module try");
	return attack.done == PAGE;
}

const char *direct_map_result(const void *page)
{
	const uint64_t frame = frame_of(page);

	if (!frame)
		return "none";
	return read_frame(frame) ? page_name(page_buffer) : "kept";
}
