// SPDX-License-Identifier: GPL-2.0-or-later
/* Many pages a request, and what the host took while a page was shared: who reaches what afterwards. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../../modules/sealproof_uapi.h"
#include "ranges.h"
#include "looks.h"
#include "replaced.h"

#define FIRMWARE_AT 0xc0000u	/* shared from the start, up to 1 MiB */
#define FIRMWARE_PAGES 64u
#define RANGE_MOST 600u			/* more than KVM does in one go */
#define MANY_AT (EXTRA_SLOT - (RANGE_MOST - 1) * PAGE)	/* of so many pages the last is the second slot's */
#define ALTERNATE 1000ull		/* single pages, each with another one behind it */
#define A_FEW 8u
#define SPARSE_PAGES 96u
#define OUT_PAGES 4u			/* that are swapped out */
#define PAGEMAP_SWAPPED 62		/* Documentation/admin-guide/mm/pagemap.rst */
#define EACH_THIRD 3u		/* of them is touched before the rest */

/* All of a range, by as many requests as it takes: KVM says how far it went, if it did not do all. */
GUEST uint64_t change(uint64_t number, uint64_t address, uint64_t pages)
{
	uint64_t first = address / PAGE;

	if (way == PLAIN)
		return 0;
	while (pages) {
		const uint64_t done = hypercall(number, first, pages);

		if (!done)
			return 0;
		if (done > pages)
			return done;
		first += done;
		pages -= done;
	}
	return 0;
}

GUEST uint64_t reached(uint64_t address, uint64_t pages)
{
	shared.report.word[0] = (uint32_t)address;
	shared.report.word[1] = (uint32_t)pages;
	return service(COUNT_REACHED);
}

/* The same of pages some of which may not be there. */
static GUEST uint64_t reached_if_there(uint64_t address, uint64_t pages)
{
	shared.report.word[0] = (uint32_t)address;
	shared.report.word[1] = (uint32_t)pages;
	return service(COUNT_SPARSE);
}

GUEST void fill_pages(uint64_t address, uint64_t pages, uint64_t word)
{
	for (uint64_t page = 0; page < pages; page++) {
		volatile uint64_t *const words = (uint64_t *)(address + page * PAGE);

		for (unsigned int i = 0; i < PAGE / 8; i++)
			words[i] = word + page;
	}
}

GUEST uint64_t whole_pages(uint64_t address, uint64_t pages, uint64_t word)
{
	uint64_t whole = 0;

	for (uint64_t page = 0; page < pages; page++) {
		const volatile uint64_t *const words = (uint64_t *)(address + page * PAGE);
		bool same = true;

		for (unsigned int i = 0; i < PAGE / 8; i++)
			same &= words[i] == word + page;
		whole += same;
	}
	return whole;
}

struct range_names {
	const char *share, *reached, *before, *behind, *back, *reached_back, *middle, *reached_ends, *whole;
};

#define RANGE_NAMES(n) { \
	n ": to share them", n " shared: reached by load, write(), direct map", n " shared: the page before them", \
	n " shared: the page behind them", n ": to take them back", n " taken back: reached", \
	n ": to take back all but the ends", n " but for the ends taken back: reached", n ": whole in the end" }

static GUEST void one_range(uint64_t pages, const struct range_names *names)
{
	const uint64_t may = way == PLAIN ? EACH(1) : 0;

	fill_pages(RANGE_AT - PAGE, pages + 2, OLD_WORD);
	tell(names->share, 0, change(HC_SHARE, RANGE_AT, pages));
	tell(names->reached, EACH(pages), reached(RANGE_AT, pages));
	tell(names->before, may, reached(RANGE_AT - PAGE, 1));
	tell(names->behind, may, reached(RANGE_AT + pages * PAGE, 1));
	if (pages > 2 && way != SHARED) {
		tell(names->middle, 0, change(HC_UNSHARE, RANGE_AT + PAGE, pages - 2));
		tell(names->reached_ends, EACH(way == PLAIN ? pages : 2), reached(RANGE_AT, pages));
	}
	if (way != SHARED) {
		tell(names->back, 0, change(HC_UNSHARE, RANGE_AT, pages));
		tell(names->reached_back, EACH(way == PLAIN ? pages : 0), reached(RANGE_AT, pages));
	}
	tell(names->whole, pages + 2, whole_pages(RANGE_AT - PAGE, pages + 2, OLD_WORD));
}

static GUEST void ranges_are_shared(void)
{
	static const struct range_names one = RANGE_NAMES("one page"), five = RANGE_NAMES("5 pages"),
					many = RANGE_NAMES("600 pages");

	one_range(1, &one);
	if (way == SHARED)	/* what is shared is so already */
		tell("1 page of them, to take it back", 0, change(HC_UNSHARE, RANGE_AT, 1));
	one_range(5, &five);
	if (way == SHARED)
		tell("5 pages, to take them back", 0, change(HC_UNSHARE, RANGE_AT, 5));
	one_range(RANGE_MOST, &many);
	/* In the page before it, which is the graphics card's in a machine, the guest has nothing. */
	fill_pages(FIRMWARE_AT, FIRMWARE_PAGES + 1, OLD_WORD);
	tell("the firmware's area: reached", EACH(FIRMWARE_PAGES), reached(FIRMWARE_AT, FIRMWARE_PAGES));
	tell("the page before the firmware's area: reached", way == PLAIN ? EACH(1) : 0,
	     reached_if_there(FIRMWARE_AT - PAGE, 1));
	tell("the page behind the firmware's area: reached", way == PLAIN ? EACH(1) : 0,
	     reached(FIRMWARE_AT + FIRMWARE_PAGES * PAGE, 1));
	if (way == PLAIN)
		return;
	/* Two memory slots, one right behind the other: none of it, or else nobody could say how much. */
	service(ADD_SLOT);
	fill_pages(EXTRA_SLOT - PAGE, 2, OLD_WORD);
	tell("across two slots: to share", NOT_VALID, hypercall(HC_SHARE, EXTRA_SLOT / PAGE - 1, 2));
	tell("across two slots: the last page of the first, reached", 0, reached(EXTRA_SLOT - PAGE, 1));
	tell("across two slots: the first page of the second, reached", 0, reached(EXTRA_SLOT, 1));
	tell("the second slot's first page: to share", 0, hypercall(HC_SHARE, EXTRA_SLOT / PAGE, 1));
	tell("the second slot's first page: reached", EACH(1), reached(EXTRA_SLOT, 1));
	tell("across two slots: to take back", NOT_VALID, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE - 1, 2));
	tell("the second slot's first page: to take back", 0, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE, 1));
	tell("the second slot's first page, taken back: reached", 0, reached(EXTRA_SLOT, 1));
	tell("the first slot's last page: to share", 0, hypercall(HC_SHARE, EXTRA_SLOT / PAGE - 1, 1));
	tell("the first slot's last page: reached", EACH(1), reached(EXTRA_SLOT - PAGE, 1));
	tell("the first slot's last page: to take back", 0, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE - 1, 1));
	tell("across two slots: whole in the end", 2, whole_pages(EXTRA_SLOT - PAGE, 2, OLD_WORD));
	/* More than KVM does at once: the second slot comes with the rest. */
	fill_pages(MANY_AT, 1, OLD_WORD);
	tell("600 pages across two slots: to share", NOT_VALID, hypercall(HC_SHARE, MANY_AT / PAGE, RANGE_MOST));
	tell("600 pages across two slots: the first of them, reached", 0, reached(MANY_AT, 1));
}

/* The VMM puts a page behind another number too: whoever shares that number must not give the page away. */
static GUEST void alias_is_not_shared(void)
{
	const uint64_t refused = way == PLAIN ? 0 : NOT_VALID, may = way == PLAIN ? EACH(1) : 0;

	fill_pages(RANGE_AT, 1, OLD_WORD);
	service(ADD_ALIAS);
	tell("the other number: to share", refused, change(HC_SHARE, EXTRA_SLOT, 1));
	tell("the page: reached by load, write(), direct map", may, reached(RANGE_AT, 1));
	tell("its own number: to share", 0, change(HC_SHARE, RANGE_AT, 1));
	tell("the page: reached then", EACH(1), reached(RANGE_AT, 1));
	tell("its own number: to take back", 0, change(HC_UNSHARE, RANGE_AT, 1));
	tell("the page: reached afterwards", may, reached(RANGE_AT, 1));
	tell("the page, whole", 1, whole_pages(RANGE_AT, 1, OLD_WORD));
}

/* Whether a page is reached by a load, by write() and in the direct map, or by none of them. */
static GUEST bool agree(uint64_t reached)
{
	return (reached & 0xffff) == (reached >> 16 & 0xffff) && (reached & 0xffff) == reached >> 32;
}

/* The VMM may not write to its memory while the guest shares it: then it may, and finds shared pages or private ones. */
static GUEST void read_only_is_shared_as_a_whole(void)
{
	fill_pages(RANGE_AT, SEAL_PAGES, OLD_WORD);
	service(FORBID_WRITES);
	const bool shared_now = !change(HC_SHARE, RANGE_AT, SEAL_PAGES);

	service(ALLOW_WRITES);
	const uint64_t after = reached(RANGE_AT, SEAL_PAGES);

	tell("load, write() and direct map agree", 1, agree(after));
	tell("reached as the guest was told", way == PLAIN || shared_now ? EACH(SEAL_PAGES) : 0, after);
	tell("to take them back", 0, change(HC_UNSHARE, RANGE_AT, SEAL_PAGES));
	tell("taken back: reached", way == PLAIN ? EACH(SEAL_PAGES) : 0, reached(RANGE_AT, SEAL_PAGES));
	tell("whole in the end", SEAL_PAGES, whole_pages(RANGE_AT, SEAL_PAGES, OLD_WORD));
}

/* Shares every second page of a range, one by one, and takes them back: the VMM has its mappings as before. */
static GUEST void every_second_is_shared(void)
{
	const uint64_t before = service(COUNT_MAPPINGS);

	fill_pages(RANGE_AT, 2 * ALTERNATE, OLD_WORD);
	for (uint64_t page = 0; page < ALTERNATE; page++)
		change(HC_SHARE, RANGE_AT + 2 * page * PAGE, 1);
	tell("every second page of 2,000 shared: reached", EACH(way == PLAIN ? 2 * ALTERNATE : ALTERNATE),
	     reached(RANGE_AT, 2 * ALTERNATE));
	const uint64_t after = service(COUNT_MAPPINGS);

	tell("mappings of the VMM that this added, above a few", 0, after > before + A_FEW ? after - before : 0);
	for (uint64_t page = 0; page < ALTERNATE; page++)
		change(HC_UNSHARE, RANGE_AT + 2 * page * PAGE, 1);
	const uint64_t left = service(COUNT_MAPPINGS);

	tell("mappings that are left when all is taken back, above a few", 0, left > before + A_FEW ? left - before : 0);
	tell("the pages, whole", 2 * ALTERNATE, whole_pages(RANGE_AT, 2 * ALTERNATE, OLD_WORD));
}

/* A range of which the guest has touched some pages when it shares it, and the VMM the rest when it takes it back. */
static GUEST void sparse_range_is_shared(void)
{
	const uint64_t all = EACH(SPARSE_PAGES), may = way == PLAIN ? all : 0;

	for (uint64_t page = 0; page < SPARSE_PAGES; page += EACH_THIRD)
		fill_pages(RANGE_AT + page * PAGE, 1, OLD_WORD + page);
	tell("every third page touched: reached", may, reached_if_there(RANGE_AT, SPARSE_PAGES));
	tell("to share them", 0, change(HC_SHARE, RANGE_AT, SPARSE_PAGES));
	tell("shared: reached", all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	if (way != SHARED)
		tell("to take them back", 0, change(HC_UNSHARE, RANGE_AT, SPARSE_PAGES));
	tell("afterwards: reached", way == PRIVATE ? 0 : all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	for (uint64_t page = 0; page < SPARSE_PAGES; page += EACH_THIRD)
		tell("a page that was touched, whole", 1, whole_pages(RANGE_AT + page * PAGE, 1, OLD_WORD + page));
	fill_pages(RANGE_AT, SPARSE_PAGES, NEW_WORD);
	tell("when all were touched: reached", way == PRIVATE ? 0 : all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	tell("whole in the end", SPARSE_PAGES, whole_pages(RANGE_AT, SPARSE_PAGES, NEW_WORD));
}

#define MSEAL 462		/* the system call, where the libc does not know it */

#define LACKS_A_PAGE 0x8000u	/* more than there are pages */

/* How many of the pages the kernel reads at their places in its direct map. */
static unsigned int count_by_direct_map(const unsigned char *page, unsigned int pages, bool some_lack)
{
	const int device = open("/dev/" SEALPROOF_ATTACK_NAME, O_RDWR | O_CLOEXEC);
	const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned int count = 0;

	if (device < 0 || pagemap < 0)
		cannot("open the attack module's device, and /proc/self/pagemap");
	for (unsigned int i = 0; i < pages; i++) {
		uint64_t entry, byte;
		const off_t where = (off_t)(((uintptr_t)page / PAGE + i) * sizeof(entry));

		if (pread(pagemap, &entry, sizeof(entry), where) != sizeof(entry))
			cannot("read /proc/self/pagemap");
		if (!(entry >> 63) && some_lack)
			continue;
		if (!(entry >> 63)) {	/* all of these pages were written: wrong for whoever looks, and no fault of ours */
			count |= LACKS_A_PAGE;
			continue;
		}
		struct sealproof_attack attack = { .method = SEALPROOF_DIRECT_MAP_READ,
						   .target = (entry & ((1ull << 55) - 1)) * PAGE, .length = 8,
						   .buffer = (uintptr_t)&byte };

		if (ioctl(device, SEALPROOF_ATTACK, &attack))
			cannot("have the attack module try");
		count += attack.done == 8;
	}
	close(device);
	close(pagemap);
	return count;
}

/* Of pages the VMM has: how many it loads from, the kernel takes from it, the kernel reads; 16 bits each, as EACH(). */
uint64_t look_at(const unsigned char *page, unsigned int pages, bool some_lack)
{
	unsigned int loaded = 0, written = 0;

	count_reached(page, pages, &loaded, &written);
	return loaded | (uint64_t)written << 16 | (uint64_t)count_by_direct_map(page, pages, some_lack) << 32;
}

static uint64_t count_mappings(void)
{
	FILE *const maps = fopen("/proc/self/maps", "re");
	uint64_t lines = 0;
	int byte;

	if (!maps)
		cannot("read /proc/self/maps");
	while ((byte = getc(maps)) != EOF)
		lines += byte == '\n';
	fclose(maps);
	return lines;
}

static GUEST void fill_and_page_out(void)
{
	fill_pages(RANGE_AT, OUT_PAGES, OLD_WORD);
	tell("pages that are swapped out when the guest asks for protection", OUT_PAGES, service(PAGE_OUT));
}

/* What the host has swapped out becomes private as well, with its content: at the request, and when it is taken back. */
static GUEST void swapped_pages_become_private(void)
{
	const uint64_t may = way == PLAIN ? EACH(OUT_PAGES) : 0;

	if (way == PLAIN)
		fill_and_page_out();
	tell("pages that were swapped out: reached", may, reached_if_there(RANGE_AT, OUT_PAGES));
	tell("pages that were swapped out, whole", OUT_PAGES, whole_pages(RANGE_AT, OUT_PAGES, OLD_WORD));
	tell("pages that were swapped out: reached when the guest has used them", may, reached(RANGE_AT, OUT_PAGES));
	tell("to share them", 0, change(HC_SHARE, RANGE_AT, OUT_PAGES));
	tell("shared pages that are swapped out when the guest takes them back", OUT_PAGES, service(PAGE_OUT));
	tell("to take them back", 0, change(HC_UNSHARE, RANGE_AT, OUT_PAGES));
	tell("pages that were taken back: reached", may, reached_if_there(RANGE_AT, OUT_PAGES));
	tell("pages that were taken back, whole", OUT_PAGES, whole_pages(RANGE_AT, OUT_PAGES, OLD_WORD));
	tell("pages that were taken back: reached when the guest has used them", may, reached(RANGE_AT, OUT_PAGES));
}

/* Needs a swap area. The kernel leaves a page that somebody holds for a moment: it is told again. */
static uint64_t page_out(const struct vm *vm)
{
	unsigned char *const where = at(vm, (void *)(uintptr_t)RANGE_AT);
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + 5000000000;
	const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entries[OUT_PAGES], out;

	if (map < 0)
		cannot("open /proc/self/pagemap");
	do {
		if (madvise(where, OUT_PAGES * PAGE, MADV_PAGEOUT))
			cannot("have pages swapped out");
		if (pread(map, entries, sizeof(entries), (off_t)((uintptr_t)where / PAGE * 8)) != sizeof(entries))
			cannot("read /proc/self/pagemap");
		out = 0;
		for (unsigned int i = 0; i < OUT_PAGES; i++)
			out += entries[i] >> PAGEMAP_SWAPPED & 1;
	} while (out < OUT_PAGES && clock_ns(CLOCK_MONOTONIC) < end);
	close(map);
	return out;
}

uint64_t serve_ranges(struct vm *vm, uint32_t what)
{
	const struct report *const guest_report = at(vm, &shared.report);
	const void *const first = (void *)(uintptr_t)guest_report->word[0];

	if (what == COUNT_MAPPINGS)
		return count_mappings();
	if (what == PAGE_OUT)
		return page_out(vm);
	if (what == ADD_SLOT) {
		vm->extra = map(EXTRA_PAGES * PAGE);
		add_memory(vm, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	}
	if (what == ADD_ALIAS) {
		add_memory(vm, 3, 0, EXTRA_SLOT, PAGE, at(vm, (void *)(uintptr_t)RANGE_AT));
		return 0;
	}
	return look_at(at(vm, first), guest_report->word[1], what == COUNT_SPARSE);
}

/* A kernel before 6.10 cannot, and to a plain guest it makes no difference. */
void seal(void *where, size_t bytes)
{
	if (syscall(MSEAL, where, bytes, 0) && (way != PLAIN || errno != ENOSYS))
		cannot("seal memory of the VM's");
}

const struct row ranges_rows[] = {
	{ "ranges", ranges_are_shared, .operands = NULL, .serve = serve_ranges },
	{ "alias", alias_is_not_shared, .operands = NULL, .serve = serve_ranges },
	{ "alternate", every_second_is_shared, .operands = NULL, .serve = serve_ranges },
	{ "read-only-mapping", read_only_is_shared_as_a_whole, .operands = NULL, .serve = serve_moves },
	{ "swapped", swapped_pages_become_private, .operands = NULL, .serve = serve_ranges, .first = fill_and_page_out },
	{ "sparse", sparse_range_is_shared, .operands = NULL, .serve = serve_ranges },
	{ .name = NULL },
};
