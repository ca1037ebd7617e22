// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's walk of the guest's page tables, beside the processor's: what an instruction that KVM carries out does to the
 * accessed and dirty bits, and how it faults. Tables and pages are the operands.
 */
#include "walk.h"

#define RESERVED (1ull << 51)	/* of an entry, as no processor here has so many address bits */
#define CR0_WP (1ull << 16)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define NOT_PRESENT_ERROR 0	/* the error code's bits; Intel SDM 4.7, AMD APM 2, 8.4.2 */
#define ERROR_PRESENT 1
#define ERROR_WRITE 2
#define ERROR_USER 4
#define ERROR_RESERVED 8
#define ERROR_FETCH 16

BOTH(load, "mov (%rdi), %rax");
BOTH(store, "mov %rsi, (%rdi)");
BOTH(add, "lock addq $1, (%rdi)");
BOTH(copy, "movsq");		/* from (rsi) to (rdi) */
BOTH(load16, "movups (%rdi), %xmm0");
BOTH(push, "pushq (%rdi)\n\tpop %rax");
BOTH(exchange, "lock cmpxchg8b (%rdi)");

/* The window's tables are the operands; its two pages are FIRST and SECOND, with these bits. */
GUEST void map_window(uint64_t first, uint64_t second)
{
	for (int i = 0; i < 512; i++)
		table(POINTERS)[i] = table(DIRECTORY)[i] = table(ENTRIES)[i] = 0;
	root[1] = (uint64_t)table(POINTERS) | TABLE;
	table(POINTERS)[IN_POINTERS] = (uint64_t)table(DIRECTORY) | TABLE;
	table(DIRECTORY)[IN_DIRECTORY] = (uint64_t)table(ENTRIES) | TABLE;
	table(ENTRIES)[IN_ENTRIES] = (uint64_t)table(FIRST) | first;
	table(ENTRIES)[IN_ENTRIES + 1] = (uint64_t)table(SECOND) | second;
	flush_tlb();
}

static GUEST uint64_t bits_of(uint64_t entry)
{
	return (entry & ACCESSED ? 1 : 0) | (entry & DIRTY ? 2 : 0);
}

/* Accessed (1) and dirty (2) of the root's entry and the three below it, a hexadecimal digit each. */
static GUEST uint64_t window_bits(int page)
{
	return bits_of(root[1]) << 12 | bits_of(table(POINTERS)[IN_POINTERS]) << 8 |
	       bits_of(table(DIRECTORY)[IN_DIRECTORY]) << 4 | bits_of(table(ENTRIES)[IN_ENTRIES + page]);
}

/* What an instruction at the window's first page does to the bits. */
static GUEST uint64_t bits_after(const void *instruction, uint64_t second_operand)
{
	map_window(TABLE | NO_EXECUTE, TABLE | NO_EXECUTE);
	table(FIRST)[0] = VALUE;
	attempt(instruction, WINDOW, second_operand);
	return fault.vector == NO_FAULT ? window_bits(0) : fault.vector << 32 | fault.error;
}

#define TELL_BITS(what, name, expected, second) \
	do { \
		tell("bits of the levels after a " what ", by the processor", expected, \
		     bits_after(native_##name, second)); \
		tell("bits of the levels after a " what ", by KVM", expected, bits_after(emulated_##name, second)); \
	} while (0)

/* Code whose last five bytes before the window's second page are the prefix: KVM alone fetches what follows. */
GUEST void write_prefix(void)
{
	static const unsigned char prefix[] = { 0x0f, 0x0b, 0x6b, 0x76, 0x6d };

	for (unsigned int i = 0; i < sizeof(prefix); i++)
		operands[FIRST][PAGE - sizeof(prefix) + i] = prefix[i];
	operands[SECOND][0] = 0xc3;	/* ret */
}

static GUEST void walk_sets_bits(void)
{
	static uint64_t place;

	TELL_BITS("load", load, 0x1111, 0);
	TELL_BITS("store", store, 0x1113, 5);
	TELL_BITS("locked addition", add, 0x1113, 0);
	TELL_BITS("compare and exchange that fails", exchange, 0x1113, 0);
	TELL_BITS("copy to it", copy, 0x1113, (uint64_t)&place);
	TELL_BITS("load of 16 bytes", load16, 0x1111, 0);
	TELL_BITS("push of it", push, 0x1111, 0);
	for (int emulated = 0; emulated < 2; emulated++) {
		map_window(TABLE, TABLE);
		write_prefix();
		attempt((void *)(WINDOW + PAGE - (emulated ? 5 : 0)), 0, 0);
		tell(emulated ? "bits of the levels after a fetch, by KVM" :
				"bits of the levels after a fetch, by the processor",
		     0x1111, fault.vector == NO_FAULT ? window_bits(1) : fault.vector << 32 | fault.error);
	}
	/* It reads and writes what is there, across two pages too. */
	map_window(TABLE, TABLE);
	table(FIRST)[511] = 0x8877665544332211;
	table(SECOND)[0] = 0x00ffeeddccbbaa99;
	tell("a load across pages, by KVM", 0xccbbaa9988776655, attempt(emulated_load, WINDOW + PAGE - 4, 0));
	attempt(emulated_store, WINDOW + PAGE - 4, VALUE);
	tell("the first page after a store across pages", 0x5566778844332211, table(FIRST)[511]);
	tell("the second page after a store across pages", 0x00ffeedd11223344, table(SECOND)[0]);
}

/* A leaf of 2 MiB in the directory, or of 1 GiB in the table of pointers: it maps BIG, or the first GiB. */
static GUEST uint64_t map_huge(bool gib)
{
	map_window(0, 0);
	if (gib)
		table(POINTERS)[IN_POINTERS] = TABLE | LEAF;
	else
		table(DIRECTORY)[IN_DIRECTORY] = BIG | TABLE | LEAF;
	flush_tlb();
	return gib ? (1ull << 39 | 2ull << 30) + BIG : (WINDOW & ~(uint64_t)(BIG_BYTES - 1));
}

static GUEST void walk_huge(bool gib, const char *const *names)
{
	const uint64_t expected[] = { gib ? 0x1100 : 0x1110, gib ? 0x1300 : 0x1130 };
	const void *const instructions[] = { native_load, native_store, emulated_load, emulated_store };
	uint64_t at;

	for (int i = 0; i < 4; i++) {
		at = map_huge(gib);
		attempt(instructions[i], at + 8, VALUE);
		tell(names[i], expected[i % 2],
		     fault.vector == NO_FAULT ? window_bits(0) & 0xfff0 : fault.vector << 32 | fault.error);
	}
	/* Its pages are where they should be, seen by KVM across the borders of the small ones. */
	uint64_t wrong = 0;

	for (uint64_t page = 1; page < BIG_BYTES / PAGE; page += 4) {
		const uint64_t value = page * VALUE;

		attempt(emulated_store, at + page * PAGE - 4, value);
		wrong += *(volatile uint64_t *)(BIG + page * PAGE - 4) != value;
		wrong += attempt(emulated_load, at + page * PAGE - 4, 0) != value;
	}
	tell(names[4], 0, wrong);
}

static GUEST void walk_huge_pages(void)
{
	static const char *const two_mib[] = {
		"bits after a load from 2 MiB, by the processor", "bits after a store to 2 MiB, by the processor",
		"bits after a load from 2 MiB, by KVM", "bits after a store to 2 MiB, by KVM",
		"wrong values in 2 MiB",
	};
	static const char *const one_gib[] = {
		"bits after a load from 1 GiB, by the processor", "bits after a store to 1 GiB, by the processor",
		"bits after a load from 1 GiB, by KVM", "bits after a store to 1 GiB, by KVM",
		"wrong values in 1 GiB",
	};

	walk_huge(false, two_mib);
	tell("the processor has pages of 1 GiB", 1, cpuid_word(0x80000001, 3) >> 26 & 1);
	walk_huge(true, one_gib);
}

enum access { LOAD, STORE, ADD, COPY, FETCH, ACCESSES };

struct walk_fault {
	const char *name[4];	/* vector and error code, and where: of the processor and of KVM */
	enum access access;
	bool user;
	int level;		/* of the entry that is changed: 4 is the root's, 1 the leaf */
	uint64_t clear, set;	/* its bits */
	uint64_t error;		/* the code that must come of it */
};

#define FAULT(what, ...) \
	{ { what ", by the processor", what ", by KVM", what ": address and place, by the processor", \
	    what ": address and place, by KVM" }, __VA_ARGS__ }

static GUEST void fault_once(const struct walk_fault *row_fault, bool emulated)
{
	static const void *const code[2][ACCESSES] = {
		{ native_load, native_store, native_add, native_copy, (void *)(WINDOW + PAGE) },
		{ emulated_load, emulated_store, emulated_add, emulated_copy, (void *)(WINDOW + PAGE - 5) },
	};
	static const void *const begin[2][ACCESSES] = {
		{ native_load_at, native_store_at, native_add_at, native_copy_at, (void *)(WINDOW + PAGE) },
		{ emulated_load_at, emulated_store_at, emulated_add_at, emulated_copy_at, (void *)(WINDOW + PAGE) },
	};
	static uint64_t place;
	const uint64_t at = row_fault->access == FETCH ? WINDOW + PAGE : WINDOW;
	const uint64_t other = row_fault->user ? ALIAS + (uint64_t)&place : (uint64_t)&place;
	uint64_t *const entry[] = { NULL, &table(ENTRIES)[IN_ENTRIES + (row_fault->access == FETCH)],
				    &table(DIRECTORY)[IN_DIRECTORY], &table(POINTERS)[IN_POINTERS], &root[1] };
	const uint64_t bits = row_fault->access == FETCH ? PRESENT | WRITABLE : TABLE;
	uint64_t begins = (uint64_t)begin[emulated][row_fault->access];

	/* What is fetched from is ring 0's own unless the row makes it the user's. */
	map_window(bits, bits);
	write_prefix();
	*entry[row_fault->level] = (*entry[row_fault->level] & ~row_fault->clear) | row_fault->set;
	flush_tlb();
	if (row_fault->user)
		attempt_user(code[emulated][row_fault->access], at, other);
	else
		attempt(code[emulated][row_fault->access], at, other);
	if (row_fault->user)
		begins += ALIAS;
	/* What KVM cannot fetch it does not carry out: the guest's fault is the prefix's, and lies behind it. */
	if (emulated && row_fault->access == FETCH) {
		tell(row_fault->name[1], 6ull << 32, fault.vector << 32 | fault.error);
		tell(row_fault->name[3], begins, fault.rip);
		return;
	}
	/* QEMU's emulation of a processor leaves "present" out where a reserved bit is set. */
	if (!emulated && fault.error & ERROR_RESERVED)
		fault.error |= ERROR_PRESENT;
	tell(row_fault->name[emulated], 14ull << 32 | row_fault->error, fault.vector << 32 | fault.error);
	/* The address faulted on, if it came at the instruction's beginning. */
	tell(row_fault->name[2 + emulated], at, fault.vector == 14 && fault.rip == begins ? fault.cr2 : fault.rip);
}

static GUEST void fault_all(const struct walk_fault *faults, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		fault_once(&faults[i], false);
		fault_once(&faults[i], true);
	}
}

static GUEST void walk_faults_on_absent(void)
{
	static const struct walk_fault faults[] = {
		FAULT("load, leaf not present", LOAD, false, 1, PRESENT, 0, NOT_PRESENT_ERROR),
		FAULT("store, leaf not present", STORE, false, 1, PRESENT, 0, ERROR_WRITE),
		FAULT("load, directory not present", LOAD, false, 2, PRESENT, 0, NOT_PRESENT_ERROR),
		FAULT("load, pointer not present", LOAD, false, 3, PRESENT, 0, NOT_PRESENT_ERROR),
		FAULT("addition, root's entry not present", ADD, false, 4, PRESENT, 0, ERROR_WRITE),
		FAULT("fetch, leaf not present", FETCH, false, 1, PRESENT, 0, ERROR_FETCH),
		FAULT("load in ring 3, leaf not present", LOAD, true, 1, PRESENT, 0, ERROR_USER),
		FAULT("store, read-only leaf", STORE, false, 1, WRITABLE, 0, ERROR_PRESENT | ERROR_WRITE),
		FAULT("addition, read-only directory", ADD, false, 2, WRITABLE, 0, ERROR_PRESENT | ERROR_WRITE),
		FAULT("copy, read-only pointer", COPY, false, 3, WRITABLE, 0, ERROR_PRESENT | ERROR_WRITE),
		FAULT("store in ring 3, read-only leaf", STORE, true, 1, WRITABLE, 0,
		      ERROR_PRESENT | ERROR_WRITE | ERROR_USER),
		FAULT("load in ring 3, leaf of ring 0", LOAD, true, 1, USER, 0, ERROR_PRESENT | ERROR_USER),
		FAULT("copy in ring 3, directory of ring 0", COPY, true, 2, USER, 0,
		      ERROR_PRESENT | ERROR_WRITE | ERROR_USER),
	};

	fault_all(faults, sizeof(faults) / sizeof(*faults));
	/* Without write protection ring 0 may write to a read-only page. */
	uint64_t cr0;

	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~CR0_WP));
	map_window(TABLE & ~WRITABLE, TABLE);
	attempt(emulated_store, WINDOW, VALUE);
	asm volatile("mov %0, %%cr0" : : "r"(cr0));
	tell("a store to a read-only page without write protection, by KVM", VALUE,
	     fault.vector == NO_FAULT ? table(FIRST)[0] : fault.vector << 32 | fault.error);
}

static GUEST void walk_faults_on_bits(void)
{
	static const struct walk_fault faults[] = {
		FAULT("fetch, no execution by the leaf", FETCH, false, 1, 0, NO_EXECUTE, ERROR_PRESENT | ERROR_FETCH),
		FAULT("load, reserved bit of the leaf", LOAD, false, 1, 0, RESERVED, ERROR_PRESENT | ERROR_RESERVED),
		FAULT("store, reserved bit of the directory", STORE, false, 2, 0, RESERVED,
		      ERROR_PRESENT | ERROR_WRITE | ERROR_RESERVED),
		FAULT("load in ring 3, reserved bit of the pointer", LOAD, true, 3, 0, RESERVED,
		      ERROR_PRESENT | ERROR_USER | ERROR_RESERVED),
		FAULT("load, size bit of the root's entry", LOAD, false, 4, 0, LEAF, ERROR_PRESENT | ERROR_RESERVED),
		FAULT("load, odd address of 2 MiB", LOAD, false, 2, 0, LEAF | 1ull << 13,
		      ERROR_PRESENT | ERROR_RESERVED),
		FAULT("fetch, reserved bit of the leaf", FETCH, false, 1, 0, RESERVED,
		      ERROR_PRESENT | ERROR_RESERVED | ERROR_FETCH),
	};

	fault_all(faults, sizeof(faults) / sizeof(*faults));
}

static GUEST void walk_obeys_smep_and_smap(void)
{
	static const struct walk_fault faults[] = {
		FAULT("fetch by ring 0 from ring 3's page", FETCH, false, 1, 0, USER, ERROR_PRESENT | ERROR_FETCH),
		FAULT("load by ring 0 from ring 3's page", LOAD, false, 1, 0, 0, ERROR_PRESENT),
		FAULT("store by ring 0 to ring 3's page", STORE, false, 1, 0, 0, ERROR_PRESENT | ERROR_WRITE),
		FAULT("addition by ring 0 to ring 3's page", ADD, false, 1, 0, 0, ERROR_PRESENT | ERROR_WRITE),
	};
	uint64_t cr4;

	tell("the processor has SMEP", 1, cpuid_word(7, 1) >> 7 & 1);
	tell("the processor has SMAP", 1, cpuid_word(7, 1) >> 20 & 1);
	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	asm volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_SMEP | CR4_SMAP));
	fault_all(faults, sizeof(faults) / sizeof(*faults));
	map_window(TABLE, TABLE);
	table(FIRST)[0] = VALUE;
	asm volatile("stac");
	const uint64_t loaded = attempt(emulated_load, WINDOW, 0);

	asm volatile("clac");
	asm volatile("mov %0, %%cr4" : : "r"(cr4));
	tell("a load by ring 0 from ring 3's page where it says so, by KVM", VALUE,
	     fault.vector == NO_FAULT ? loaded : fault.vector << 32 | fault.error);
}

/* Changes to page tables in use, by every kind of write: what is mapped must be what the tables say, at once. */
static GUEST void walk_follows_changes(void)
{
	static const char *const names[] = {
		"a leaf changed by a store", "a leaf changed by an exchange", "a leaf changed by compare and exchange",
		"a leaf changed by compare and exchange of 8 bytes", "a leaf changed by a locked or",
		"a leaf changed by a store of KVM's", "a leaf changed by compare and exchange of KVM's",
		"a directory's entry changed by a store",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++) {
		map_window(TABLE, TABLE);
		table(FIRST)[0] = 0xf1;
		table(SECOND)[0] = 0x52;

		uint64_t *leaf = &table(ENTRIES)[IN_ENTRIES];
		const uint64_t old = *leaf | ACCESSED, new = (uint64_t)table(SECOND) | TABLE | ACCESSED;
		const uint64_t before = *(volatile uint64_t *)WINDOW;	/* now a shadow of the table is in use */
		uint64_t expected = 0xf10052, stored = new, compared = old, above = old >> 32;

		switch (i) {
		case 0:
			*(volatile uint64_t *)leaf = new;
			break;
		case 1:
			asm volatile("xchg %0, (%1)" : "+r"(stored) : "r"(leaf) : "memory");
			break;
		case 2:
			asm volatile("lock cmpxchg %1, (%2)" : "+a"(compared) : "r"(new), "r"(leaf) : "memory", "cc");
			break;
		case 3:
			asm volatile("lock cmpxchg8b (%2)"
				     : "+a"(compared), "+d"(above)
				     : "r"(leaf), "b"((uint32_t)new), "c"((uint32_t)(new >> 32)) : "memory", "cc");
			break;
		case 4:	/* absent first, then by one bit present again, with the second page */
			*(volatile uint64_t *)leaf = new & ~PRESENT;
			flush_page(WINDOW);
			attempt(native_load, WINDOW, 0);
			expected |= 14ull << 32;
			asm volatile("lock orq $1, (%0)" : : "r"(leaf) : "memory", "cc");
			break;
		case 5:
			attempt(emulated_store, (uint64_t)leaf, new);
			break;
		case 6:
			asm volatile(FORCED "lock cmpxchg %1, (%2)"
				     : "+a"(compared) : "r"(new), "r"(leaf) : "memory", "cc");
			break;
		default:	/* another leaf table, made in the page of what was data */
			table(SECOND)[IN_ENTRIES] = new;
			*(volatile uint64_t *)&table(DIRECTORY)[IN_DIRECTORY] = (uint64_t)table(SECOND) | TABLE;
		}
		const uint64_t vector = i == 4 ? fault.vector << 32 : 0;

		flush_page(WINDOW);
		tell(names[i], expected, vector | before << 16 | *(volatile uint64_t *)WINDOW);
	}
}

const struct row walk_rows[] = {
	{ "walk-bits", walk_sets_bits, .operands = operands, .pages = WALK_PAGES },
	{ "walk-huge", walk_huge_pages, .operands = operands, .pages = WALK_PAGES,
	  .more = (void *)BIG, .more_pages = BIG_BYTES / PAGE },
	{ "walk-absent", walk_faults_on_absent, .operands = operands, .pages = WALK_PAGES },
	{ "walk-reserved", walk_faults_on_bits, .operands = operands, .pages = WALK_PAGES },
	{ "walk-smep-smap", walk_obeys_smep_and_smap, .operands = operands, .pages = WALK_PAGES },
	{ "walk-changes", walk_follows_changes, .operands = operands, .pages = WALK_PAGES },
	{ .name = NULL },
};
