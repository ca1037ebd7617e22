// SPDX-License-Identifier: GPL-2.0-or-later
/* What the host finds in the guest's pages, and how all that was found is told. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>

#include "looks.h"
#include "modes.h"
#include "shutdown.h"
#include "disclosures.h"

static __thread sigjmp_buf after_fault;
static __thread volatile sig_atomic_t expects_fault;

void take_fault_of_ours(int number)
{
	(void)number;
	errno = EFAULT;
	if (!expects_fault)
		cannot("reach memory of its own, which the guest has not got");
	expects_fault = 0;
	siglongjmp(after_fault, 1);
}

bool load_word(const void *from, uint64_t *word)
{
	if (sigsetjmp(after_fault, 1))
		return false;
	expects_fault = 1;
	*word = *(const volatile uint64_t *)from;
	expects_fault = 0;
	return true;
}

/* How many of the pages the VMM may load from, and how many the kernel takes from it by write(). */
void count_reached(const unsigned char *page, unsigned int pages, unsigned int *loaded, unsigned int *written)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	for (unsigned int i = 0; i < pages; i++) {
		uint64_t word;
		char byte;

		*loaded += load_word(page + i * PAGE, &word);
		if (write(ends[1], page + i * PAGE, 1) == 1) {
			++*written;
			if (read(ends[0], &byte, 1) != 1)
				cannot("read from a pipe");
		} else if (errno != EFAULT) {
			cannot("write to a pipe");
		}
	}
	close(ends[0]);
	close(ends[1]);
}

/* KiB of the host's memory, as /proc/meminfo has them beside a name. */
uint64_t memory_kib(const char *name)
{
	FILE *const file = fopen("/proc/meminfo", "re");
	const size_t length = strlen(name);
	uint64_t kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, length) && line[length] == ':')
			kib = strtoul(line + length + 1, NULL, 10);
	}
	if (!kib)
		cannot("read how much memory the host has, and for what");
	fclose(file);
	return kib;
}

void report_text(struct text *line, const char *name, const char *expected, const char *got)
{
	begin_check(line, name);
	text_add(line, ",\"expected\":");
	text_add_string(line, expected);
	text_add(line, ",\"got\":");
	text_add_string(line, got);
	text_add(line, "}");
	print_line(line);
}

static void report_reach(struct text *line, const struct vm *vm, const char *name, bool may, const void *from,
			 unsigned int pages)
{
	unsigned int loaded = 0, written = 0;
	char expected[64], got[64];

	if (!pages)
		return;
	count_reached(at(vm, from), pages, &loaded, &written);
	snprintf(expected, sizeof(expected), "%u by load, %u by write()", may ? pages : 0, may ? pages : 0);
	snprintf(got, sizeof(got), "%u by load, %u by write()", loaded, written);
	report_text(line, name, expected, got);
}

void look(struct text *line, const struct vm *vm, const char *when)
{
	const bool may = way != PRIVATE || row->given.number;
	char name[80];

	if (vm->over)	/* its memory is the VMM's again */
		return;

	snprintf(name, sizeof(name), "operand pages that the host reaches %s", when);
	report_reach(line, vm, name, may, row->operands, row->pages);
	snprintf(name, sizeof(name), "further pages that the host reaches %s", when);
	report_reach(line, vm, name, may, row->more, row->more_pages);
	/* The code is private in a protected guest, whatever it shares. */
	snprintf(name, sizeof(name), "pages of code that the host reaches %s", when);
	report_reach(line, vm, name, way == PLAIN || row->given.number, (void *)((uintptr_t)attempt & ~(uintptr_t)(PAGE - 1)), 1);
}

void report_hex(struct text *line, const char *name, uint64_t expected, uint64_t got)
{
	char words[2][32];

	snprintf(words[0], sizeof(words[0]), "%#llx", (unsigned long long)expected);
	snprintf(words[1], sizeof(words[1]), "%#llx", (unsigned long long)got);
	report_text(line, name, words[0], words[1]);
}

static void report_found(struct text *line, const struct report *guest_report)
{
	for (uint32_t i = 0; i < guest_report->found_count && i < sizeof(guest_report->found) / sizeof(*guest_report->found); i++)
		report_hex(line, guest_report->found[i].name, guest_report->found[i].expected, guest_report->found[i].got);
}

void report_all(struct text *line, const struct vm *vm)
{
	const struct report *const guest_report = vm->over ? &vm->report : at(vm, &shared.report);

	report_text(line, "exits that must not be", "", vm->wrong);
	if (vm->again) {
		report_found(line, &vm->report);
		report_hex(line, "requests of the next guest for protection", 0, guest_report->enabled);
	}
	report_found(line, guest_report);
	for (const struct word *word = row->words; word && word->name; word++)
		report_hex(line, word->name, word->expected, guest_report->word[word - row->words]);
	if (row->refused)	/* where the guest may end without a word of its own, it must have come so far */
		report_text(line, "the VMM has done what the guest was to meet", "yes", vm->served ? "yes" : "no");
	/* KVM tells no address of an access that it emulates (Documentation/virt/kvm/x86/protected-memory.rst). */
	if (row->ends_at && way != PLAIN && row->ends_managed && kvm_runs_real_mode())
		report_text(line, "KVM's emulator ends the guest", "yes", vm->ended_in_emulator ? "yes" : "no");
	else if (row->ends_at && way != PLAIN)
		report_hex(line, "where the guest ends", row->ends_at, vm->ended_at);
	if (row->gives_up)
		report_untold(line, vm);
	if (row->gives_up_often)
		report_watched(line, vm);
	if (row->goes_to_rom)
		report_rom(line, vm);
	if (vm->over)
		row->report(line, vm);
	if (row->serve == serve_timer)
		report_text(line, "the first processor begins at its reset vector", way == PLAIN ? "yes" : "no", vm->anew ? "yes" : "no");
	if (row->serve == count_task_switches)
		report_text(line, "KVM carries out task switches", "yes", vm->exits >= TASK_SWITCHES ? "yes" : "no");
	if (vm->string_count) {
		uint64_t expected = FNV_START;

		for (unsigned int i = 0; i < 64; i++) {
			const uint16_t value = (uint16_t)(0x1000 + i);

			expected = fnv1a64(expected, &value, sizeof(value));
		}
		report_hex(line, "bytes that came by a port", expected, fnv1a64(FNV_START, vm->string, 128));
	}
}
