// SPDX-License-Identifier: GPL-2.0-or-later
/* A page of the guest's that breaks when nobody has it: no guest gets it again. */
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "broken.h"
#include "failures.h"
#include "places.h"
#include "ranges.h"

#define BROKEN_MOST 2048u	/* more pages than KVM has ready for the guest */

/* What the host side is asked. */
enum { BREAK_FREE_PAGE = 0xc000, COUNT_BROKEN };

static GUEST void broken_page_does_not_come_back(void)
{
	touch_pages(1);
	tell("a free page is declared broken", way != PLAIN, service(BREAK_FREE_PAGE));
	tell("pages that the guest finds empty", BROKEN_MOST, touch_pages(BROKEN_MOST));
	tell("pages of the guest's that are broken", 0, service(COUNT_BROKEN));
}

#define PRESENT_THERE (1ull << 63)
#define FRAME_NUMBER ((1ull << 55) - 1)
#define SETTLE_NS 500000000	/* KVM clears what was freed a tenth of a second later */
#define FRAME_IS_BROKEN (1ull << 19)	/* KPF_HWPOISON */

static uint64_t read_word(const char *file, uint64_t index)
{
	const int from = open(file, O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	if (from < 0 || pread(from, &word, sizeof(word), (off_t)(index * sizeof(word))) != (ssize_t)sizeof(word))
		cannot(file);
	close(from);
	return word;
}

/* Of a page of the VMM's; 0: it has none. Documentation/admin-guide/mm/pagemap.rst */
static uint64_t frame_of(const unsigned char *page)
{
	const uint64_t entry = read_word("/proc/self/pagemap", (uintptr_t)page / PAGE);

	return entry & PRESENT_THERE ? entry & FRAME_NUMBER : 0;
}

/* Has the kernel take a frame for broken, or for whole. It may say that it cannot do anything about it (EBUSY). */
static void declare(const char *file, uint64_t frame)
{
	char number[24];
	const int into = open(file, O_WRONLY | O_CLOEXEC);
	const int length = snprintf(number, sizeof(number), "%llu", (unsigned long long)frame);

	if (into < 0 || (write(into, number, (size_t)length) < 0 && errno != EBUSY))
		cannot(file);
	close(into);
}

static uint64_t broken;	/* the number of the frame that is broken; 0: none */

/* The host goes on, however the row ends. */
static void make_whole(void)
{
	const uint64_t frame = broken;

	broken = 0;
	if (frame)
		declare("/sys/kernel/debug/hwpoison/unpoison-pfn", frame);
}

/* A frame that the guest had, and that KVM has ready for it then. Return: whether it is broken now. */
static uint64_t break_free_page(const struct vm *vm)
{
	const struct timespec while_it_is_cleared = { .tv_nsec = SETTLE_NS };
	unsigned char *const page = at(vm, (void *)(uintptr_t)RANGE_AT);
	const uint64_t frame = frame_of(page);

	write_setting("/proc/sys/vm/drop_caches", "1");	/* a list of its CPU may hold it */
	if (!frame || madvise(page, PAGE, MADV_DONTNEED))
		cannot("give a page back");
	if (way == PLAIN)	/* the kernel gives that memory to everybody */
		return 0;
	nanosleep(&while_it_is_cleared, NULL);
	atexit(make_whole);
	broken = frame;
	declare("/sys/kernel/debug/hwpoison/corrupt-pfn", frame);
	return !!(read_word("/proc/kpageflags", frame) & FRAME_IS_BROKEN);
}

static uint64_t count_broken(const struct vm *vm)
{
	const unsigned char *const pages = at(vm, (void *)(uintptr_t)RANGE_AT);
	uint64_t count = 0;

	if (!broken)
		return 0;
	for (uint64_t page = 0; page < BROKEN_MOST; page++)
		count += frame_of(pages + page * PAGE) == broken;
	make_whole();
	return count;
}

static uint64_t serve_broken(struct vm *vm, uint32_t what)
{
	return what == BREAK_FREE_PAGE ? break_free_page(vm) : count_broken(vm);
}

const struct row broken_rows[] = {
	{ "broken", broken_page_does_not_come_back, .operands = NULL, .serve = serve_broken },
	{ .name = NULL },
};
