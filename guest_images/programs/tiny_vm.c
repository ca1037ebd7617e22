// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tiny_vm - a VMM whose guest does one thing that KVM must carry out for it, on pages of every kind
 *
 * usage: tiny_vm ROW plain|private|shared
 *
 * For what no operating system does for us: other modes of the processor, page tables by hand, SVM in SVM. The guest is
 * code of this program (tiny_vm.h), in 64 MiB of anonymous memory. "plain": it does not ask for protection. "private":
 * it does, by hypercall. "shared": it does, and shares the pages that the row is about. Checks are those of the guest,
 * of the VMM's own look at these pages before and after, and of exits that must not be: an internal error, a shutdown,
 * a memory access that comes to the VMM though the guest has memory there.
 *
 * Needs /dev/kvm. A row that another needs is a function, and a line of the table below.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <elf.h>

#include "../modules/sealproof_uapi.h"
#include "tiny_vm.h"
#include "tiny_vm_guest.h"
#include "tiny_vm_modes.h"
#include "tiny_vm_nested.h"
#include "tiny_vm_paravirt.h"
#include "tiny_vm_addresses.h"
#include "tiny_vm_exchanges.h"
#include "tiny_vm_interrupts.h"
#include "tiny_vm_places.h"
#include "tiny_vm_processes.h"
#include "tiny_vm_ranges.h"
#include "tiny_vm_refusals.h"
#include "tiny_vm_reset.h"
#include "tiny_vm_second.h"
#include "tiny_vm_shutdown.h"
#include "tiny_vm_slots.h"
#include "tiny_vm_waits.h"
#include "tiny_vm_walk.h"

#define DEADLINE_S 20
#define CPUID_ENTRIES 256
#define STRING_BYTES 256
#define LATE_NS 100000000	/* how late a missing page comes */
#define BUSY_NS 3000000000	/* longer than any turn of the scheduler */
#define BUSY_PRIVATE_NS 200000000
#define LOOK_US 1000		/* how often a process looks what another one has told */
#define SETTLE_NS 500000000	/* KVM gives back what was freed a tenth of a second later */
#define CLOSE_S 120

#define MSR_SMBASE 0x9e
#define BEYOND (1ull << 51)	/* of the guest's addresses: more than the processor has */
#define LONGEST_WAIT 4096u	/* rounds: of a thread, so that it meets a moment of another one */
#define BESIDE_MOST 2000u	/* of attempts that another thread is to meet */
#define MAY_BE_DROPPED 8	/* MAP_DROPPABLE, where the libc does not know it */
#define COLLAPSE 25	/* MADV_COLLAPSE, where the libc does not know it */
#define MEMORY_FAULT 39	/* an exit: Documentation/virt/kvm/api.rst KVM_EXIT_MEMORY_FAULT */
#define XEN_VCPU_INFO_HVA 9	/* an attribute of KVM's Xen, by the VMM's address, where the headers do not know it */
#define MSEAL 462		/* the system call, where the libc does not know it */
#define ROUTES 24u		/* of the VMM's interrupt controllers */
#define RING_ENTRIES 1024u	/* a power of two, more than 64, which KVM keeps free */

struct vm {
	int kvm, fd, cpu;
	struct kvm_run *run;
	unsigned char *ram, *logged, *readonly, *extra, *far;
	unsigned char string[STRING_BYTES];	/* what came by PORT_STRING */
	uint32_t string_count;
	uint64_t mmio;		/* the last that was stored where the row has a device */
	uint64_t exits;		/* of the row's task switches */
	struct kvm_dirty_gfn *ring;	/* of what was written; NULL where the row has none */
	uint32_t next;		/* in the ring */
	int fail_nth;		/* Linux: Documentation/fault-injection/fault-injection.rst; of this thread */
	uint32_t fail_next;	/* which allocation is to fail in the next run; 0: none */
	uint32_t failed;	/* whether one did in the last */
	int second, third;	/* other processors, where the row has them */
	struct kvm_run *second_run, *third_run;
	uint64_t steps, told, managed;	/* exits: for debugging, with the secret, in system management mode */
	uint64_t priorities;	/* exits that tell where the guest uses its task priority */
	uint64_t given_up;	/* exits because KVM gives up on an instruction, where the row has many */
	bool served;		/* the row's host side has done something */
	uint64_t ended_at;	/* the address of the page where KVM did not let the guest go on */
	bool anew;		/* the first processor has begun at its reset vector */
	bool over;		/* the machine was reset; the guest's report was this one */
	struct report report;
	bool again;		/* it was reset for another guest, whose report follows */
	uint64_t after_reset[3];	/* as ask_state() */
	bool upper_after_reset[2];
	uint64_t kept_by_reset;	/* as ask_kept() */
	struct {
		unsigned int count;
		uint64_t told;		/* as ask_state(), behind it */
		uint64_t goes_on;	/* as run_in_rom() */
		uint64_t words;		/* of the guest's, that the VMM finds when it has reset the machine */
	} shutdown;
	char wrong[200];	/* the exit that must not be */
};

enum mode { MODE64, MODE32, MODE16 };

struct word {
	const char *name;
	uint32_t expected;
};

struct row {
	const char *name;
	void (*run)(void);		/* in 64-bit mode; may be all that there is */
	const void *operands;
	unsigned int pages;			/* of the operands */
	const void *more;
	unsigned int more_pages;
	enum mode mode;				/* of what follows at begin, if not 64-bit */
	const unsigned char *begin;
	const struct word *words;		/* what that finds */
	uint64_t (*serve)(struct vm *vm, uint32_t what);
	uint64_t device;			/* what is stored or loaded there comes to the VMM, rightly */
	uint32_t device_more;			/* bytes behind that address that are the device's, too */
	bool device_if_plain;			/* but not of a protected guest */
	bool ring;				/* what is written is told in a ring, not in a log */
	bool refused;				/* KVM may end it: it cannot have the guest go on */
	uint32_t meets;				/* once the VMM has done that; 0: anything */
	void (*first)(void);			/* before the guest asks for protection, if it is to */
	uint64_t ends_at;			/* the page number's address where it does */
	bool gives_up;				/* KVM is to give up on an instruction, which ends the row */
	bool gives_up_often;			/* it is to, again and again, while another thread looks on */
	bool second;				/* there is another processor */
	bool third;				/* and one more */
	bool second_boots;			/* and it is the one that boots */
	bool no_apic;				/* KVM has none for it */
	bool split;				/* KVM has those alone; the other interrupt controllers are the VMM's */
	uint64_t apic_base;			/* where the local APIC is, if not where a reset puts it */
	bool hyper_v;				/* the guest finds Hyper-V, and KVM */
	bool wide_twin;				/* APICs' numbers have 32 bits, and the twin comes before the second processor */
	bool one_space;				/* the slots of put_page() are not there in system management mode */
	bool has_stack_in_window;		/* the VMM, by its registers, when it runs the guest */
	bool asks_exits;			/* exits come that the VMM has asked for */
	bool shuts_down;			/* the first processor does */
	bool goes_to_rom;			/* it goes on there, and then the VMM resets the machine for another guest */
	void (*report)(struct text *line, const struct vm *vm);	/* more, when the machine was reset */
	struct {
		uint32_t number;
		uint64_t value;
	} given;				/* an address in a register, before the VM starts: it cannot be protected then */
};

static const struct row *row;

/* Where the VMM has what the guest has at an address. */
static void *at(const struct vm *vm, const void *guest)
{
	const uintptr_t address = (uintptr_t)guest;

	if (address >= SLOT_LOGGED && address < SLOT_LOGGED + SLOT_PAGES * PAGE)
		return vm->logged + (address - SLOT_LOGGED);
	if (vm->extra && address >= EXTRA_SLOT && address < EXTRA_SLOT + EXTRA_PAGES * PAGE)
		return vm->extra + (address - EXTRA_SLOT);
	return vm->ram + address;
}

/* --- what the rows in other modes must find ----------------------------------------------------------------------- */

static const struct word real_words[] = {
	{ "real mode: loaded by the processor", 0x1003 },
	{ "real mode: loaded by KVM", 0x1004 },
	{ "real mode: stored by KVM", 0xabcd },
	{ "real mode: last of 64 words copied by KVM", 0x103f },
	{ "real mode: words left to copy", 0 },
	{ "real mode: interrupt by the processor", 0x77 },
	{ "real mode: interrupt by KVM", 0x77 },
	{ "real mode: pushed by KVM", 0x1234 },
	{ "real mode: popped by KVM", 0x1234 },
	{ "real mode: called by KVM", 0x5a },
	{ "real mode: called in another segment by KVM", 0x5b },
	{ "real mode: the stack's pointer afterwards", REAL_STACK - 0x28000 },
	{ "real mode: last bytes from a port", 0x7f7e },
	{ NULL, 0 },
};

static const struct word pae_words[] = {
	{ "PAE: loaded by the processor", 0xaaaa0001 },
	{ "PAE: loaded by KVM", 0xaaaa0001 },
	{ "PAE: accessed and dirty bits by KVM", ACCESSED | DIRTY },
	{ "PAE: stored by KVM", 0x600d },
	{ "PAE: by another pointer, loaded by the processor", 0xbbbb0002 },
	{ "PAE: by another pointer, loaded by KVM", 0xbbbb0002 },
	{ "PAE: fault of a pointer with a reserved bit", 13 },
	{ "PAE: paging after that fault", 0 },
	{ "PAE: loaded after the pointer was put right", 0xbbbb0002 },
	{ NULL, 0 },
};

static const struct word task_words[] = {
	{ "task switch: eax of the new task", 0x3333 },
	{ "task switch: eax of the old, saved", 0x1111 },
	{ "task switch: ebx of the old, saved", 0x2222 },
	{ "task switch: where the old goes on, from where it should", 0 },
	{ "task switch: the old is busy", 0 },
	{ "task switch: the new is busy", 1 },
	{ "task switch: eax, back in the old task", 0x1111 },
	{ "task call: eax of the task that was called", 0x3333 },
	{ "task call: its link", SELECT_ONE },
	{ "task call: nested", 1 },
	{ "task call: eax after the return", 0x1111 },
	{ "task call: the one that returned is busy", 0 },
	{ "task gate: reached", 0x4444 },
	{ "task gate: its link", SELECT_ONE },
	{ "task gate: eax after the return", 0x1111 },
	{ NULL, 0 },
};

/* --- what rows have the VMM do ------------------------------------------------------------------------------------ */

static uint64_t raise_smi(struct vm *vm, uint32_t what)
{
	(void)what;
	if (ioctl(vm->cpu, KVM_SMI))
		cannot("raise an interrupt of system management");
	return 0;
}

/* How often the processor has come back from the guest: KVM's binary statistics (Documentation/virt/kvm/api.rst 4.132). */
static uint64_t count_exits(const struct vm *vm)
{
	const int file = ioctl(vm->cpu, KVM_GET_STATS_FD, 0);
	struct kvm_stats_header header;
	unsigned char room[sizeof(struct kvm_stats_desc) + 256];
	struct kvm_stats_desc *const one = (struct kvm_stats_desc *)room;
	uint64_t value;

	if (file < 0 || pread(file, &header, sizeof(header), 0) != sizeof(header) || header.name_size > 256)
		cannot("read the processor's statistics");
	const size_t size = sizeof(*one) + header.name_size;

	for (uint32_t i = 0; i < header.num_desc; i++) {
		if (pread(file, room, size, header.desc_offset + (off_t)(i * size)) != (ssize_t)size)
			break;
		if (strcmp(one->name, "exits"))
			continue;
		if (pread(file, &value, sizeof(value), header.data_offset + (off_t)one->offset) != sizeof(value))
			break;
		close(file);
		return value;
	}
	errno = ENOENT;
	cannot("find the number of exits among the processor's statistics");
	return 0;
}

static uint64_t count_task_switches(struct vm *vm, uint32_t what)
{
	vm->exits = count_exits(vm) - (what == 1 ? 0 : vm->exits);
	return 0;
}

static uint64_t serve_ranges(struct vm *vm, uint32_t what);
static uint64_t serve_sealed(struct vm *vm, uint32_t what);
static uint64_t serve_failures(struct vm *vm, uint32_t what);
static uint64_t serve_moves(struct vm *vm, uint32_t what);
static uint64_t serve_handles(struct vm *vm, uint32_t what);
static uint64_t serve_refusals(struct vm *vm, uint32_t what);
static uint64_t serve_state(struct vm *vm, uint32_t what);
static uint64_t serve_second(struct vm *vm, uint32_t what);
static uint64_t serve_exits(struct vm *vm, uint32_t what);
static uint64_t serve_slots(struct vm *vm, uint32_t what);
static uint64_t serve_exchanges(struct vm *vm, uint32_t what);
static uint64_t serve_interrupts(struct vm *vm, uint32_t what);
static uint64_t serve_apic(struct vm *vm, uint32_t what);
static uint64_t serve_twin(struct vm *vm, uint32_t what);
static uint64_t serve_places(struct vm *vm, uint32_t what);
static uint64_t serve_addresses(struct vm *vm, uint32_t what);
static uint64_t serve_reset(struct vm *vm, uint32_t what);
static uint64_t serve_children(struct vm *vm, uint32_t what);
static uint64_t serve_timer(struct vm *vm, uint32_t what);
static uint64_t serve_across(struct vm *vm, uint32_t what);
static uint64_t serve_watched(struct vm *vm, uint32_t what);
static uint64_t serve_freed(struct vm *vm, uint32_t what);
static uint64_t serve_pending(struct vm *vm, uint32_t what);
static uint64_t serve_call(struct vm *vm, uint32_t what);
static uint64_t serve_steered(struct vm *vm, uint32_t what);
static uint64_t serve_copy(struct vm *vm, uint32_t what);
static uint64_t serve_before(struct vm *vm, uint32_t what);
static uint64_t serve_refused_state(struct vm *vm, uint32_t what);
static uint64_t serve_shutdown(struct vm *vm, uint32_t what);
static void take_shutdown(struct vm *vm);
static uint64_t ask_another(struct vm *vm, uint32_t what);
static void report_untold(struct text *line, const struct vm *vm);
static void report_watched(struct text *line, const struct vm *vm);
static void report_reset(struct text *line, const struct vm *vm);
static void report_stored(struct text *line, const struct vm *vm);
static void report_place(struct text *line, const struct vm *vm);
static void report_rom(struct text *line, const struct vm *vm);
static void report_pending(struct text *line, const struct vm *vm);
static void report_call(struct text *line, const struct vm *vm);
static void report_steered(struct text *line, const struct vm *vm);
static void report_copied(struct text *line, const struct vm *vm);

static uint64_t nothing(struct vm *vm, uint32_t what)
{
	(void)vm;
	(void)what;
	return 0;
}

/* Runs beside the guest on its processor until the guest was seen not to run, or long enough. */
static void *take_processor(void *of)
{
	const struct vm *const vm = of;
	struct report *const report = at(vm, &shared.report);
	const volatile unsigned char *const preempted = at(vm, &operands[AREA][16]);
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + (way == PRIVATE ? BUSY_PRIVATE_NS : BUSY_NS);
	uint64_t saw = 0;

	while (!saw && clock_ns(CLOCK_MONOTONIC) < end)
		saw = way == PRIVATE ? 0 : *preempted;	/* a private one is not ours to load */
	report->answer = 0x100 | saw;
	return NULL;
}

/* 2: have another thread take the guest's processor. */
static uint64_t compete(struct vm *vm, uint32_t what)
{
	pthread_t thread;
	cpu_set_t one;

	if (what != 2)
		return 0;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);	/* not just any: guest_images/host/init says why */
	if (sched_setaffinity(0, sizeof(one), &one))
		cannot("stay on one processor");
	errno = pthread_create(&thread, NULL, take_processor, vm);
	if (errno)
		cannot("start a thread");
	pthread_detach(thread);
	return 0;
}

/* 1: whether the host's clock is the TSC, else how far these seconds are from now. */
static uint64_t compare_clocks(struct vm *vm, uint32_t what)
{
	(void)vm;
	if (what == 1) {
		char source[16] = "";
		FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

		if (!file || !fgets(source, sizeof(source), file))
			cannot("read the host's clock source");
		fclose(file);
		return !strcmp(source, "tsc\n");
	}
	const int64_t off = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000000) - what;

	return off >= -CLOSE_S && off <= CLOSE_S ? 0 : (uint64_t)off;
}

static uint64_t read_log(struct vm *vm, uint32_t what)
{
	uint64_t pages = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &pages };

	(void)what;
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		cannot("read the dirty log");
	return pages;
}

/* The same from the ring of the virtual CPU (Documentation/virt/kvm/api.rst 8.29): takes what is new, and hands it back. */
static uint64_t read_ring(struct vm *vm, uint32_t what)
{
	uint64_t pages = 0;

	(void)what;
	for (struct kvm_dirty_gfn *one; one = &vm->ring[vm->next % RING_ENTRIES],
	     __atomic_load_n(&one->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY; vm->next++) {
		if (one->slot == 1 && one->offset < SLOT_PAGES)
			pages |= 1ull << one->offset;
		__atomic_store_n(&one->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	if (ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0) < 0)
		cannot("hand back the dirty ring");
	return pages;
}

static uint64_t tell_readonly(struct vm *vm, uint32_t what)
{
	const uint64_t last = vm->mmio;

	vm->mmio = 0;
	return what == 1 ? *(uint64_t *)vm->readonly : last;
}

static int late_page;	/* a userfaultfd */

static void *give_page(void *page)
{
	static uint64_t content[PAGE / 8] = { VALUE };
	struct uffd_msg asked;
	struct uffdio_copy copy = { .dst = (uintptr_t)page, .src = (uintptr_t)content, .len = PAGE };
	const struct timespec late = { .tv_nsec = LATE_NS };

	if (read(late_page, &asked, sizeof(asked)) != sizeof(asked))
		cannot("wait for the guest to ask for its page");
	nanosleep(&late, NULL);
	if (ioctl(late_page, UFFDIO_COPY, &copy))
		cannot("give the guest its page");
	return NULL;
}

static uint64_t withhold_page(struct vm *vm, uint32_t what)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)vm->logged, .len = PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	(void)what;
	late_page = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (late_page < 0 || ioctl(late_page, UFFDIO_API, &api) || madvise(vm->logged, PAGE, MADV_DONTNEED) ||
	    ioctl(late_page, UFFDIO_REGISTER, &range))
		cannot("withhold a page of the guest's");
	errno = pthread_create(&thread, NULL, give_page, vm->logged);
	if (errno)
		cannot("start a thread");
	pthread_detach(thread);
	return 0;
}

/* The request of a guest that is refused in the end leaves nothing behind: another VM of the process may be protected. */
static GUEST void ask_another_when_refused(void)
{
	tell("ENABLE where KVM has an address of the VMM's", NO_RIGHT, hypercall(HC_ENABLE, 0, 0));
	tell("what another VM of the process is told afterwards", 0, service(ASK_UNGIVEN));
}

/* --- the rows ----------------------------------------------------------------------------------------------------- */

static const struct row rows[] = {
	{ "walk-bits", walk_sets_bits, .operands = operands, .pages = WALK_PAGES },
	{ "walk-huge", walk_huge_pages, .operands = operands, .pages = WALK_PAGES,
	  .more = (void *)BIG, .more_pages = BIG_BYTES / PAGE },
	{ "walk-absent", walk_faults_on_absent, .operands = operands, .pages = WALK_PAGES },
	{ "walk-reserved", walk_faults_on_bits, .operands = operands, .pages = WALK_PAGES },
	{ "walk-smep-smap", walk_obeys_smep_and_smap, .operands = operands, .pages = WALK_PAGES },
	{ "walk-changes", walk_follows_changes, .operands = operands, .pages = WALK_PAGES },
	{ "pae", prepare_pae, .operands = operands, .pages = PAE_DATA2 + 1, .mode = MODE32, .begin = pae_begin,
	  .words = pae_words },
	{ "real-mode", prepare_real, .operands = NULL, .pages = LOW_BYTES / PAGE, .mode = MODE16, .begin = real_begin,
	  .words = real_words },
	{ "task-switch", prepare_task, .operands = operands, .pages = TASK_STACKS + 1, .mode = MODE32,
	  .begin = task_begin, .words = task_words, .serve = count_task_switches },
	{ "smm", run_smm, .operands = (void *)(uintptr_t)SMM_BASE, .pages = 16, .serve = raise_smi },
	{ "nested", run_nested_guest, .operands = operands, .pages = NESTED_STACK + 1 },
	{ "nested-tables", run_nested_guest_with_tables, .operands = operands, .pages = NESTED_STACK + 1 },
	{ "dirty-log", writes_are_logged, .operands = (void *)(uintptr_t)SLOT_LOGGED, .pages = SLOT_PAGES,
	  .serve = read_log },
	{ "dirty-ring", writes_are_logged, .operands = (void *)(uintptr_t)SLOT_LOGGED, .pages = SLOT_PAGES,
	  .serve = read_ring, .ring = true },
	{ "read-only", read_only_is_read_only, .operands = operands, .pages = 1, .serve = tell_readonly,
	  .device = SLOT_READONLY },
	{ "ranges", ranges_are_shared, .operands = NULL, .serve = serve_ranges },
	{ "alias", alias_is_not_shared, .operands = NULL, .serve = serve_ranges },
	{ "alias-behind", alias_behind_is_not_shared, .operands = NULL, .serve = serve_places },
	{ "alternate", every_second_is_shared, .operands = NULL, .serve = serve_ranges },
	{ "sealed", failure_opens_nothing, .operands = NULL, .serve = serve_sealed },
	{ "sealed-rest", failure_takes_nothing_back, .operands = NULL, .serve = serve_sealed },
	{ "read-only-mapping", read_only_is_shared_as_a_whole, .operands = NULL, .serve = serve_moves },
	{ "neighbour", neighbour_of_the_vmm_is_not_mapped, .operands = operands, .pages = NESTED_STACK + 1,
	  .serve = serve_moves, .refused = true },
	{ "moved", moved_page_is_not_shared, .operands = NULL, .serve = serve_moves },
	{ "fail-nth", failed_allocation_opens_nothing, .operands = NULL, .serve = serve_failures,
	  .first = fail_to_enable },
	{ "fail-nested", failed_allocation_holds_nothing, .operands = operands, .pages = NESTED_STACK + 1,
	  .serve = serve_failures },
	{ "handles", handles_are_dead_one_by_one, .operands = operands, .pages = HELD_PAGES, .serve = serve_handles },
	{ "handles-at-once", handles_are_dead_at_once, .operands = operands, .pages = HELD_PAGES, .serve = serve_handles },
	{ "sparse", sparse_range_is_shared, .operands = NULL, .serve = serve_ranges },
	{ "untold", instruction_is_not_told, .operands = operands, .pages = 1, .gives_up = true },
	{ "untold-registers", instruction_is_not_told, .operands = operands, .pages = 1, .gives_up = true,
	  .first = enable_with_registers },
	{ "untold-meanwhile", instruction_is_not_told_meanwhile, .operands = operands, .pages = 1, .serve = serve_watched,
	  .first = enable_with_registers, .gives_up_often = true },
	{ "another", another_is_refused, .operands = operands, .pages = 1, .serve = ask_another },
	{ "kinds", kinds_are_refused, .operands = NULL, .serve = serve_refusals, .first = ask_with_each_kind },
	{ "limit", limit_is_heeded, .operands = NULL, .serve = serve_refusals, .first = ask_beyond_limit },
	{ "registers", registers_are_not_told, .operands = NULL, .serve = serve_state, .first = enable_with_registers },
	{ "registers-later", registers_are_private_at_first_or_not, .operands = NULL, .serve = serve_state,
	  .first = enable_without_registers },
	{ "registers-refused", registers_are_private_at_first_or_not, .operands = NULL, .serve = serve_refused_state,
	  .first = ask_for_registers_in_vain },
	{ "port-data", port_data_is_cleared, .operands = NULL, .serve = serve_state, .first = enable_with_registers },
	{ "second-set", second_is_the_guests, .operands = NULL, .serve = serve_second, .first = set_second_and_enable,
	  .second = true },
	{ "second-started", second_is_not_started, .operands = NULL, .serve = serve_second,
	  .first = start_second_and_enable, .second = true },
	{ "second-across", second_does_not_run_across, .operands = NULL, .serve = serve_across,
	  .first = run_second_across_enable, .second = true, .third = true },
	{ "reset-registers", registers_end_with_a_reset, .operands = NULL, .serve = serve_second,
	  .first = widen_and_enable, .second = true, .report = report_reset },
	{ "reset-pending", start_that_is_pending_ends_with_a_reset, .operands = NULL, .serve = serve_pending,
	  .first = enable_with_registers, .second = true, .third = true, .report = report_pending },
	{ "reset-at-call", call_under_way_ends_with_a_reset, .operands = NULL, .serve = serve_call,
	  .first = enable_with_registers, .second = true, .report = report_call },
	{ "reset-steered", steered_processor_finds_nothing, .operands = NULL, .serve = serve_steered,
	  .first = enable_with_registers, .second = true, .report = report_steered },
	{ "reset-forgotten", memory_is_forgotten_at_a_reset, .operands = NULL, .serve = serve_reset, .device = EXTRA_SLOT },
	{ "reset-moved", moved_page_ends_with_a_reset, .operands = NULL, .serve = serve_reset },
	{ "reset-shared", sharing_ends_with_a_reset, .operands = NULL, .serve = serve_reset },
	{ "reset-running", running_processor_ends_with_a_reset, .operands = NULL, .serve = serve_reset,
	  .first = enable_with_registers, .second = true, .report = report_stored },
	{ "reset-at-load", interrupted_load_ends_with_a_reset, .operands = operands, .pages = 4, .serve = serve_reset,
	  .first = enable_with_registers, .device = NO_MEMORY_AT, .report = report_place },
	{ "reset-at-copy", interrupted_copy_ends_with_a_reset, .operands = operands, .pages = 4, .serve = serve_copy,
	  .first = enable_with_registers, .device = NO_MEMORY_AT, .device_more = 1, .report = report_copied },
	{ "shutdown", processor_shuts_down, .operands = NULL, .first = enable_with_registers, .shuts_down = true,
	  .goes_to_rom = true },
	{ "init-first", first_gets_init, .operands = NULL, .serve = serve_shutdown, .first = enable_with_registers, .second = true,
	  .goes_to_rom = true },
	{ "shutdown-second", second_shuts_down, .operands = NULL, .serve = serve_shutdown, .first = enable_with_registers,
	  .second = true },
	{ "twin", twin_does_not_run, .operands = NULL, .serve = serve_second, .first = enable_with_registers, .second = true },
	{ "twin-before", twin_does_not_run, .operands = NULL, .serve = serve_second, .first = add_twin_and_enable,
	  .second = true },
	{ "twin-runs", running_twin_does_not_start, .operands = NULL, .serve = serve_twin, .first = run_twin_and_enable,
	  .second = true },
	{ "twin-wide", wide_twin_does_not_start, .operands = NULL, .serve = serve_twin, .first = enable_with_registers,
	  .second = true, .wide_twin = true },
	{ "second-boots", nothing_more, .operands = operands, .pages = 1, .first = ask_by_another_than_boots, .second = true,
	  .second_boots = true },
	{ "no-apic", nothing_more, .operands = operands, .pages = 1, .first = ask_without_apic, .no_apic = true,
	  .apic_base = APIC | APIC_ENABLED | APIC_BOOTS },	/* else one that is not there is not in its place either */
	{ "apic-elsewhere", apic_is_the_vmms, .operands = operands, .pages = 1, .serve = serve_apic,
	  .first = ask_with_apic_elsewhere, .apic_base = APIC_MOVED | APIC_ENABLED | APIC_BOOTS, .device = TASK_PRIORITY },
	{ "apic-hidden", apic_is_memory, .operands = operands, .pages = 1, .serve = serve_interrupts,
	  .first = ask_with_apic_hidden },
	{ "apic-stays", apic_stays_kvms, .operands = NULL, .serve = serve_interrupts, .first = enable_with_registers },
	{ "apic-off", apic_does_not_answer, .operands = operands, .pages = 1, .first = ask_with_apic_elsewhere,
	  .apic_base = APIC | APIC_BOOTS },
	{ "asks-managed", nothing_more, .operands = operands, .pages = 1, .first = ask_in_management, .serve = raise_smi },
	{ "asks-behind", nobody_is_asked_before, .operands = NULL, .serve = serve_before, .first = ask_behind_another,
	  .second = true, .third = true },
	{ "nested-shares", nested_guest_shares_nothing, .operands = NULL, .serve = serve_ranges,
	  .first = enable_with_registers, .hyper_v = true },
	{ "hyper-v", hypercall_is_not_hyper_vs, .operands = NULL, .serve = serve_second, .first = have_hyper_v_and_enable,
	  .second = true },
	{ "exits", exits_tell_nothing, .operands = NULL, .serve = serve_exits, .first = prepare_exits_and_enable,
	  .asks_exits = true },
	{ "denied", no_register_fails, .operands = NULL, .serve = serve_exits, .first = deny_registers_and_enable },
	{ "second-exits", second_stops_for_nobody, .operands = NULL, .serve = serve_second,
	  .first = step_second_and_enable, .second = true },
	{ "timer", timer_starts_nothing, .operands = NULL, .serve = serve_timer, .first = set_timer_and_enable },
	{ "given-management", nothing_more, .operands = operands, .pages = 1, .given = { MSR_SMBASE, 0x40000 } },
	{ "given-save-area", nothing_more, .operands = operands, .pages = 1, .given = { MSR_SAVE_AREA, 0x50000 } },
	{ "given-another", nothing_more, .operands = operands, .pages = 1, .serve = ask_another,
	  .first = ask_another_when_refused, .given = { MSR_SMBASE, 0x40000 } },
	{ "addresses", no_address_is_written_to, .operands = operands, .pages = ADDRESSED_PAGES, .serve = serve_addresses,
	  .first = give_time },
	{ "moved-touched", moved_page_is_not_taken_for_another, .operands = NULL, .serve = serve_moves, .refused = true },
	{ "replaced", replaced_memory_is_not_loaded, .operands = NULL, .serve = serve_slots, .refused = true },
	{ "replaced-code", replaced_code_is_not_run, .operands = NULL, .serve = serve_slots },
	{ "replaced-table", replaced_table_is_not_walked, .operands = NULL, .serve = serve_slots },
	{ "traced", registers_are_not_traced, .operands = operands, .pages = TRACED_CODE + 1, .first = enable_with_registers },
	{ "new-slot", new_slot_brings_nothing, .operands = NULL, .serve = serve_slots },
	{ "filled-slot", filled_slot_brings_nothing, .operands = NULL, .serve = serve_places },
	{ "moved-slot", moved_slot_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = DELETE_SLOT, .ends_at = BEHIND_SLOT, .device = BEHIND_SLOT, .device_if_plain = true },
	{ "taken-back-both", taking_back_both_brings_nothing, .operands = NULL, .serve = serve_moves },
	{ "taken-back", taking_back_brings_nothing, .operands = NULL, .serve = serve_moves },
	{ "cleared", pages_are_cleared_for_others, .operands = NULL, .serve = serve_places, .has_stack_in_window = true },
	{ "managed-slot", managed_memory_is_private, .operands = NULL, .serve = serve_places, .first = have_managed_memory },
	{ "managed-deleted", managed_memory_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = DELETE_MANAGED, .ends_at = EXTRA_SLOT, .device = EXTRA_SLOT, .device_if_plain = true },
	{ "window", window_shows_no_other_page, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = PUT_IN_WINDOW, .ends_at = CARD_AT },
	{ "window-before", window_begins_where_it_does, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = PUT_IN_WINDOW, .ends_at = BEFORE_CARD_AT },
	{ "alias-managed", managed_alias_is_not_shared, .operands = NULL, .serve = serve_places },
	{ "refused-moved", refused_slot_opens_nothing_moved, .operands = NULL, .serve = serve_places },
	{ "freed-along", pages_are_freed_all_along, .operands = NULL, .serve = serve_freed },
	{ "refused-slot", refused_slot_opens_nothing, .operands = NULL, .serve = serve_slots },
	{ "refused-beside", refused_slot_opens_no_neighbour, .operands = NULL, .serve = serve_places },
	{ "far", far_page_is_shared, .operands = NULL, .serve = serve_places },
	{ "child", child_is_protected, .operands = NULL, .serve = serve_children },
	{ "locked", locked_memory_comes_back, .operands = NULL, .serve = serve_children, .first = ask_in_turn },
	{ "comes-back", private_memory_comes_back, .operands = NULL, .serve = serve_children },
	{ "large-page", large_page_is_not_mapped, .operands = NULL, .serve = serve_slots, .refused = true },
	{ "exchanged", pages_are_not_exchanged, .operands = NULL, .serve = serve_exchanges,
	  .one_space = true },	/* or KVM would empty the page when it comes a second time, in the other one */
	{ "older", older_page_does_not_come_back, .operands = NULL, .serve = serve_exchanges },
	{ "older-beside", older_page_does_not_come_back_with_another, .operands = NULL, .serve = serve_exchanges },
	{ "second-number", page_keeps_its_number, .operands = NULL, .serve = serve_exchanges },
	{ "second-number-loaded", page_has_one_number, .operands = NULL, .serve = serve_exchanges, .refused = true,
	  .ends_at = OTHER_AT },
	{ "taken-for-another", nothing_is_taken_back_for_another, .operands = NULL, .serve = serve_exchanges, .refused = true },
	{ "moved-back", moved_page_does_not_come_back, .operands = NULL, .serve = serve_exchanges, .refused = true },
	{ "moved-taken-back", moved_page_does_not_come_back_by_taking_back, .operands = NULL, .serve = serve_exchanges },
	{ "moved-renewed", moved_page_is_not_replaced, .operands = NULL, .serve = serve_exchanges },
	{ "upcall", no_upcall_comes, .operands = NULL, .serve = serve_exchanges, .first = enable_with_registers },
	{ "by-pic", no_interrupt_of_the_pic_comes, .operands = NULL, .serve = serve_interrupts,
	  .first = enable_with_registers },
	{ "by-ioctl", no_interrupt_by_ioctl_comes, .operands = NULL, .serve = serve_interrupts,
	  .first = enable_with_registers, .split = true },
	{ "exceptions-vector", no_interrupt_has_an_exceptions_vector, .operands = NULL, .serve = serve_interrupts,
	  .first = be_sent_one_and_enable },
	{ "ended", no_store_ends_an_interrupt, .operands = NULL, .serve = serve_interrupts, .first = enable_with_registers },
	{ "auto-ended", no_interrupt_ends_by_itself, .operands = NULL, .serve = serve_interrupts, .first = let_end_and_enable },
	{ "pv-eoi", pv_eoi, .operands = operands, .pages = 1 },
	{ "pv-ipi", pv_ipi, .operands = operands, .pages = 1 },
	{ "pv-tlb-flush", pv_tlb_flush, .operands = operands, .pages = 1, .serve = compete },
	{ "pv-async-pf", pv_async_page_fault, .operands = operands, .pages = 1, .serve = withhold_page },
	{ "pv-clock-pairing", pv_clock_pairing, .operands = operands, .pages = 1, .serve = compare_clocks },
	{ "pv-wall-clock", pv_wall_clock, .operands = operands, .pages = 1, .serve = compare_clocks },
	{ "hypercall-patch", hypercall_is_patched, .operands = operands, .pages = 1 },
	{ "apic", apic_is_reached, .operands = operands, .pages = 1 },
};

/* --- the VMM ------------------------------------------------------------------------------------------------------ */

/* What all rows begin with, in the VM. */
static GUEST __attribute__((noreturn)) void guest_begins(void)
{
	prepare_faults();
	if (row->first && way != PLAIN)
		row->first();
	ask_for_protection(row->operands, row->pages, row->more, row->more_pages);
	asm volatile("out %%al, %0" : : "N"(PORT_READY) : "memory");
	if (!shared.report.enabled)
		row->run();
	asm volatile("out %%al, %0" : : "N"(PORT_DONE) : "memory");
	__builtin_unreachable();
}

static void add_to_space(const struct vm *vm, uint32_t space, uint32_t slot, uint32_t flags, uint64_t gpa,
			 uint64_t size, void *where)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot | space << 16, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)where,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		cannot("give the VM memory");
}

static void add_memory(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *where)
{
	/* System management mode may have an address space of its own; here it is the same. */
	const int spaces = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);

	for (uint32_t space = 0; space == 0 || (int)space < spaces; space++)
		add_to_space(vm, space, slot, flags, gpa, size, where);
}

static void *map(size_t size)
{
	void *const where = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (where == MAP_FAILED)
		cannot("map the VM's memory");
	return where;
}

/* This program at the same addresses in the VM, as it was when it started, but for the row and the way. */
static void copy_program(const struct vm *vm)
{
	const Elf64_Phdr *segment = (const Elf64_Phdr *)getauxval(AT_PHDR);

	for (unsigned long left = getauxval(AT_PHNUM); left; left--, segment++) {
		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_vaddr + segment->p_memsz > BIG) {
			errno = EFBIG;
			cannot("copy this program into the VM");
		}
		/* What lies behind is zero, and much of it other programs', if it is linked with them. */
		memcpy(vm->ram + segment->p_vaddr, (void *)segment->p_vaddr, segment->p_filesz);
	}
	*(const struct row **)at(vm, &row) = row;
	*(enum way *)at(vm, &way) = way;
	make_tables(vm->ram);
}

#define CPUID_HYPERVISOR 0x40000000u
#define CPUID_INTERFACE 0x40000001u	/* of hypervisors; arch/x86/include/asm/hyperv-tlfs.h */
#define CPUID_NESTED 0x4000000au
#define CPUID_OF_KVM 0x100u		/* how far KVM's own leaves are behind Hyper-V's, where there are both */
#define DIRECT_FLUSH (1u << 17)		/* hypercalls of a nested guest's come to Hyper-V itself */
#define IS_HYPER_V 0x31237648u

/* Hyper-V's leaves, and KVM's behind them. */
static void offer_hyper_v(struct kvm_cpuid2 *table)
{
	static const struct kvm_cpuid_entry2 leaves[] = {
		{ .function = CPUID_HYPERVISOR, .eax = CPUID_NESTED },
		{ .function = CPUID_INTERFACE, .eax = IS_HYPER_V },
		{ .function = CPUID_NESTED, .eax = DIRECT_FLUSH },
	};

	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *const one = &table->entries[i];

		if (one->function == CPUID_HYPERVISOR)
			one->eax += CPUID_OF_KVM;
		if (one->function == CPUID_HYPERVISOR || one->function == CPUID_INTERFACE)
			one->function += CPUID_OF_KVM;
	}
	for (unsigned int i = 0; i < sizeof(leaves) / sizeof(*leaves) && table->nent < CPUID_ENTRIES; i++)
		table->entries[table->nent++] = leaves[i];
}

static void offer_all(const struct vm *vm, int cpu)
{
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, table))
		cannot("ask for the CPUID that a VM can have");
	if (row->hyper_v)
		offer_hyper_v(table);
	if (ioctl(cpu, KVM_SET_CPUID2, table))
		cannot("set the VM's CPUID");
	free(table);
}

static struct kvm_segment segment(uint64_t base, uint16_t selector, uint8_t type, enum mode mode)
{
	const bool code = type & 8;

	return (struct kvm_segment){ .base = base, .limit = mode == MODE16 ? 0xffff : 0xffffffff, .selector = selector,
				     .type = type, .present = 1, .s = 1,
				     .db = mode == MODE32 || (mode == MODE64 && !code),
				     .l = mode == MODE64 && code, .g = mode != MODE16 };
}

/* Has it begin at an address, in a mode, with flat segments; real mode's are those of tiny_vm_modes.h. */
static void set_mode(const struct vm *vm, enum mode mode, const void *begin)
{
	static const uint64_t cr0[] = { 0x80010033, 0x33, 0x30 };	/* PG, WP, NE, ET, MP, PE */
	const bool real = mode == MODE16;
	struct kvm_regs regs = { .rflags = 2, .rip = (uintptr_t)begin, .rsp = (uintptr_t)(stack + sizeof(stack) - 8) };
	struct kvm_sregs sregs;

	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.cs = segment(0, mode == MODE64 ? CODE64 : CODE32, 0xb, mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0, DATA, 3, mode);
	sregs.tr = (struct kvm_segment){ .base = (uintptr_t)&task_state, .limit = sizeof(task_state) - 1,
					 .selector = TASK, .type = 0xb, .present = 1 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = (uintptr_t)segments, .limit = sizeof(segments) - 1 };
	sregs.cr0 = cr0[mode];
	sregs.cr3 = mode == MODE64 ? (uintptr_t)root : 0;
	sregs.cr4 = mode == MODE64 ? 0x620 : 0x600;	/* OSXMMEXCPT, OSFXSR, PAE */
	sregs.efer = mode == MODE64 ? 0xd00 : 0;	/* NXE, LMA, LME */
	if (mode == MODE32)
		sregs.idt = (struct kvm_dtable){ .base = (uintptr_t)gates32, .limit = sizeof(gates32) - 1 };
	if (mode == MODE32 && row->begin == task_begin) {
		sregs.gdt = (struct kvm_dtable){ .base = (uintptr_t)operands, .limit = SELECT_TWO + 7 };
		sregs.tr = (struct kvm_segment){ .base = (uintptr_t)operands[TASK_ONE], .limit = 103,
						 .selector = SELECT_ONE, .type = 0xb, .present = 1 };
		regs.rsp = (uintptr_t)operands[TASK_STACKS] + PAGE - 16;
	}
	if (real) {
		regs.rip = 0;
		regs.rsp = REAL_STACK - 0x28000;
		sregs.cs = segment(REAL_CODE, REAL_CODE / 16, 0xb, mode);
		sregs.ds = segment(REAL_DATA, REAL_DATA / 16, 3, mode);
		sregs.es = segment(REAL_DATA + PAGE, (REAL_DATA + PAGE) / 16, 3, mode);
		sregs.ss = segment(REAL_STACK, REAL_STACK / 16, 3, mode);
		sregs.fs = segment((uintptr_t)shared.report.word, 0, 3, mode);
		sregs.idt = (struct kvm_dtable){ .base = 0, .limit = 0x3ff };
	}
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs) || ioctl(vm->cpu, KVM_SET_REGS, &regs))
		cannot("set the VM's registers");
}

static struct kvm_run *add_processor(const struct vm *vm, int *cpu, unsigned long number)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run;

	*cpu = ioctl(vm->fd, KVM_CREATE_VCPU, number);
	if (*cpu < 0 || size < 0)
		cannot("create a virtual CPU");
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *cpu, 0);
	if (run == MAP_FAILED)
		cannot("map the virtual CPU");
	return run;
}

/* One that does not boot waits to be started. */
static void let_run(int cpu)
{
	struct kvm_mp_state state = { KVM_MP_STATE_RUNNABLE };

	if (ioctl(cpu, KVM_SET_MP_STATE, &state))
		cannot("let a virtual CPU run");
}

/* KVM finds no processor by its APIC's number that came after the last change of one (QEMU sets all of them, too). */
static void put_in_order(int cpu)
{
	struct kvm_lapic_state apic;

	if (ioctl(cpu, KVM_GET_LAPIC, &apic) || ioctl(cpu, KVM_SET_LAPIC, &apic))
		cannot("set another virtual CPU's APIC");
}

static void give_address(const struct vm *vm, uint32_t number, uint64_t address)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { { .nmsrs = 1 }, { .index = number, .data = address } };

	if (ioctl(vm->cpu, KVM_SET_MSRS, &one) != 1)
		cannot("give the virtual CPU an address");
}

static void put_apic(const struct vm *vm, uint64_t base)
{
	struct kvm_sregs sregs;

	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.apic_base = base;
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs))
		cannot("put the local APIC elsewhere");
}

static void have_controllers(const struct vm *vm)
{
	struct kvm_enable_cap apics = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { ROUTES } };
	struct kvm_enable_cap wide = { .cap = KVM_CAP_X2APIC_API, .args = { KVM_X2APIC_API_USE_32BIT_IDS } };

	if (row->split ? ioctl(vm->fd, KVM_ENABLE_CAP, &apics) : ioctl(vm->fd, KVM_CREATE_IRQCHIP))
		cannot("have interrupt controllers");
	if (row->wide_twin && ioctl(vm->fd, KVM_ENABLE_CAP, &wide))
		cannot("have APICs with numbers of 32 bits");
}

static void add_twin(struct vm *vm)
{
	if (vm->third_run)
		return;
	vm->third_run = add_processor(vm, &vm->third, TWIN);
	offer_all(vm, vm->third);
}

static void make_vm(struct vm *vm)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm->fd = vm->kvm < 0 ? -1 : ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		cannot("create a VM by /dev/kvm");
	if (!row->no_apic)
		have_controllers(vm);
	if (row->second_boots && ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 1))
		cannot("have another processor boot");
	if (row->ring) {	/* before there is a virtual CPU */
		struct kvm_enable_cap ring = { .cap = KVM_CAP_DIRTY_LOG_RING,
					       .args = { RING_ENTRIES * sizeof(struct kvm_dirty_gfn) } };

		if (ioctl(vm->fd, KVM_ENABLE_CAP, &ring))
			cannot("have a dirty ring");
	}
	/* As QEMU has it: where the guest has large pages the VMM may have some. */
	vm->ram = map(RAM_BYTES + BIG_BYTES);
	vm->ram += -(uintptr_t)vm->ram % BIG_BYTES;
	vm->logged = map(SLOT_PAGES * PAGE);
	vm->readonly = map(SLOT_PAGES * PAGE);
	*(uint64_t *)vm->readonly = VALUE ^ (uint64_t)getpid();
	copy_program(vm);
	add_memory(vm, 0, 0, 0, RAM_BYTES, vm->ram);
	add_memory(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT_LOGGED, SLOT_PAGES * PAGE, vm->logged);
	add_memory(vm, 2, KVM_MEM_READONLY, SLOT_READONLY, SLOT_PAGES * PAGE, vm->readonly);
	vm->run = add_processor(vm, &vm->cpu, 0);
	if (row->wide_twin)
		add_twin(vm);
	if (row->second)
		vm->second_run = add_processor(vm, &vm->second, 1);
	if (row->third)
		vm->third_run = add_processor(vm, &vm->third, 2);
	if (row->ring) {
		vm->ring = mmap(NULL, RING_ENTRIES * sizeof(*vm->ring), PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu,
				KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
		if (vm->ring == MAP_FAILED)
			cannot("map the dirty ring");
	}
	offer_all(vm, vm->cpu);
	if (row->second) {
		offer_all(vm, vm->second);
		put_in_order(vm->second);
	}
	if (row->third) {
		offer_all(vm, vm->third);
		put_in_order(vm->third);
	}
	if (row->second_boots)
		let_run(vm->cpu);
	if (row->given.number)
		give_address(vm, row->given.number, row->given.value);
	if (row->apic_base)
		put_apic(vm, row->apic_base);
}

/* --- exits -------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t alarms;

/* Interrupts the system call that a thread is in. */
static void take_kick(int number)
{
	(void)number;
}

static void take_alarm(int number)
{
	(void)number;
	alarms = alarms + 1;
}

static void wrong_exit(struct vm *vm, const char *what, uint64_t more)
{
	struct kvm_regs regs = { 0 };

	ioctl(vm->cpu, KVM_GET_REGS, &regs);
	snprintf(vm->wrong, sizeof(vm->wrong), "%s (%#llx) at rip %#llx", what, (unsigned long long)more,
		 (unsigned long long)regs.rip);
}

static void string_port(struct vm *vm)
{
	unsigned char *const data = (unsigned char *)vm->run + vm->run->io.data_offset;

	for (uint32_t i = 0; i < vm->run->io.count * vm->run->io.size; i++) {
		if (vm->run->io.direction == KVM_EXIT_IO_OUT)
			vm->string[vm->string_count++ % STRING_BYTES] = data[i];
		else
			data[i] = (unsigned char)(0x40 + vm->string_count++ - 128);
	}
}

static void set_fail_nth(const struct vm *vm, uint32_t nth)
{
	char number[16];
	const int length = snprintf(number, sizeof(number), "%u", nth);

	if (pwrite(vm->fail_nth, number, (size_t)length, 0) != length)
		cannot("write /proc/thread-self/fail-nth");
}

/* Whether the allocation that was to fail was made. None fails from now on. */
static bool has_failed(const struct vm *vm)
{
	char number[16] = "";

	if (pread(vm->fail_nth, number, sizeof(number) - 1, 0) <= 0)
		cannot("read /proc/thread-self/fail-nth");
	set_fail_nth(vm, 0);
	return atoi(number) == 0;
}

#define KVMS_WINDOW 0x40000000		/* where KVM has a private page mapped; arch/x86/mm/guest_page.c of the series */
#define BELOW_IT 0x1000			/* a stack ends above where it begins */

/* KVM_RUN by a thread whose frame pointer leads there; the system call needs no stack. */
static int run_with_stack_in_window(const struct vm *vm)
{
	long result;

	asm volatile("mov %%rsp, %%r12\n\tmov %%rbp, %%r13\n\tmov %[stack], %%rsp\n\tmov %[frame], %%rbp\n\t"
		     "syscall\n\tmov %%r12, %%rsp\n\tmov %%r13, %%rbp"
		     : "=a"(result)
		     : "0"(SYS_ioctl), "D"(vm->cpu), "S"(KVM_RUN), "d"(0), [stack] "i"(BELOW_IT), [frame] "i"(KVMS_WINDOW)
		     : "rcx", "r11", "r12", "r13", "memory");
	if (result >= 0)
		return 0;
	errno = (int)-result;
	return -1;
}

/* KVM_RUN; once more where it was its own allocation that failed, and not one of the guest's request. */
static int run_guest(struct vm *vm)
{
	int result;

	if (row->has_stack_in_window)
		return run_with_stack_in_window(vm);
	if (!vm->fail_next)
		return ioctl(vm->cpu, KVM_RUN, 0);
	set_fail_nth(vm, vm->fail_next);
	result = ioctl(vm->cpu, KVM_RUN, 0);
	const int error = errno;

	vm->failed = has_failed(vm);
	vm->fail_next = 0;
	errno = error;
	return result && (error == ENOMEM || error == EFAULT) ? ioctl(vm->cpu, KVM_RUN, 0) : result;
}

/* An exit that the VMM has asked for: whether the secret is anywhere in what KVM and the VMM share. */
static bool note_exit(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const uint64_t secret = SECRET;

	switch (vm->run->exit_reason) {
	case KVM_EXIT_DEBUG:
		vm->steps++;
		return true;
	case KVM_EXIT_TPR_ACCESS:
		vm->priorities += vm->run->tpr_access.rip != 0;
		return true;
	case KVM_EXIT_X86_WRMSR:
		vm->told += size > 0 && memmem(vm->run, (size_t)size, &secret, sizeof(secret));
		vm->run->msr.error = 0;
		return true;
	case KVM_EXIT_XEN:
		vm->told += size > 0 && memmem(vm->run, (size_t)size, &secret, sizeof(secret));
		vm->run->xen.u.hcall.result = 0;
		return true;
	default:
		return false;
	}
}

/* The address that KVM tells of a page that the guest cannot have; all ones without one. */
static uint64_t memory_fault(const struct kvm_run *run)
{
	const struct {
		uint64_t flags, gpa, size;
	} *const told = (const void *)&run->hw;	/* all exits begin there; the headers may not know this one */

	return run->exit_reason == MEMORY_FAULT ? told->gpa & -(uint64_t)PAGE : ~0ull;
}

/* Whether an access that comes to the VMM is one to the row's device. */
static bool take_access(struct vm *vm)
{
	const struct kvm_run *const run = vm->run;

	if (!row->device || run->mmio.phys_addr < row->device || run->mmio.phys_addr > row->device + row->device_more ||
	    (way != PLAIN && row->device_if_plain))
		return false;
	if (run->mmio.is_write)
		memcpy(&vm->mmio, run->mmio.data, sizeof(vm->mmio));
	else
		row->serve(vm, LOADED);
	return true;
}

/* Runs the guest until it says so by that port. Else `wrong` is set. */
static void run_until(struct vm *vm, unsigned int port)
{
	struct kvm_run *const run = vm->run;
	struct report *const report = at(vm, &shared.report);

	while (!vm->wrong[0]) {
		if (run_guest(vm)) {
			if (row->refused && way != PLAIN && errno == EFAULT) {
				vm->ended_at = memory_fault(run);
				return;
			}
			wrong_exit(vm, errno == EINTR ? "no end in time" : strerrorname_np(errno), 0);
			return;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			if (!take_access(vm))
				wrong_exit(vm, "KVM_EXIT_MMIO", run->mmio.phys_addr);
			else if (vm->over)
				return;
		} else if (row->gives_up && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			return;
		} else if (row->gives_up_often && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			if (++vm->given_up == GIVE_UPS)
				return;
		} else if (row->refused && way != PLAIN && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			return;
		} else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
			wrong_exit(vm, "KVM_EXIT_INTERNAL_ERROR", run->internal.suberror);
		} else if (row->shuts_down && run->exit_reason == KVM_EXIT_SHUTDOWN && !vm->shutdown.count) {
			take_shutdown(vm);
		} else if (run->exit_reason == KVM_EXIT_SHUTDOWN) {
			wrong_exit(vm, "KVM_EXIT_SHUTDOWN", 0);
		} else if (row->asks_exits && note_exit(vm)) {
			continue;
		} else if (run->exit_reason != KVM_EXIT_IO) {
			wrong_exit(vm, "exit", run->exit_reason);
		} else if (run->io.port == port) {
			return;
		} else if (run->io.port == PORT_STRING) {
			string_port(vm);
		} else if (run->io.port == PORT_SERVICE) {
			const uint32_t what = *(uint32_t *)((unsigned char *)run + run->io.data_offset);

			const uint64_t answer = (row->serve ? row->serve : nothing)(vm, what);

			vm->served |= !row->meets || what == row->meets;
			if (vm->over)
				return;
			report->answer = answer;
		} else if (run->io.port == PORT_READY && vm->again) {
			continue;
		} else if (run->io.port == PORT_ANEW) {
			vm->anew = true;
			return;
		} else if (run->io.port == PORT_MANAGED) {
			vm->managed++;
		} else if (run->io.port == PORT_STRAY) {
			wrong_exit(vm, "fault of that vector", report->last.vector);
			snprintf(vm->wrong + strlen(vm->wrong), sizeof(vm->wrong) - strlen(vm->wrong),
				 ", error %#llx, rip %#llx, cr2 %#llx", (unsigned long long)report->last.error,
				 (unsigned long long)report->last.rip, (unsigned long long)report->last.cr2);
		} else {
			wrong_exit(vm, "port", run->io.port);
		}
	}
}

/* --- what the host sees ------------------------------------------------------------------------------------------- */

static sigjmp_buf after_fault;

static void take_fault_of_ours(int number)
{
	(void)number;
	siglongjmp(after_fault, 1);
}

/* How many of the pages the VMM may load from, and how many the kernel takes from it by write(). */
static void count_reached(const unsigned char *page, unsigned int pages, unsigned int *loaded, unsigned int *written)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	for (unsigned int i = 0; i < pages; i++) {
		char byte;

		if (!sigsetjmp(after_fault, 1)) {
			*(volatile const unsigned char *)(page + i * PAGE);
			++*loaded;
		}
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

static void report(struct text *line, const char *name, const char *expected, const char *got)
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
	report(line, name, expected, got);
}

static void look(struct text *line, const struct vm *vm, const char *when)
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

static void report_hex(struct text *line, const char *name, uint64_t expected, uint64_t got)
{
	char words[2][32];

	snprintf(words[0], sizeof(words[0]), "%#llx", (unsigned long long)expected);
	snprintf(words[1], sizeof(words[1]), "%#llx", (unsigned long long)got);
	report(line, name, words[0], words[1]);
}

static void report_found(struct text *line, const struct report *told)
{
	for (uint32_t i = 0; i < told->found_count && i < sizeof(told->found) / sizeof(*told->found); i++)
		report_hex(line, told->found[i].name, told->found[i].expected, told->found[i].got);
}

static void report_all(struct text *line, const struct vm *vm)
{
	const struct report *const told = vm->over ? &vm->report : at(vm, &shared.report);

	report(line, "exits that must not be", "", vm->wrong);
	if (vm->again) {
		report_found(line, &vm->report);
		report_hex(line, "requests of the next guest for protection", 0, told->enabled);
	}
	report_found(line, told);
	for (const struct word *word = row->words; word && word->name; word++)
		report_hex(line, word->name, word->expected, told->word[word - row->words]);
	if (row->refused)	/* where the guest may end without a word of its own, it must have come so far */
		report(line, "the VMM has done what the guest was to meet", "yes", vm->served ? "yes" : "no");
	if (row->ends_at && way != PLAIN)
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
		report(line, "the first processor begins at its reset vector", way == PLAIN ? "yes" : "no", vm->anew ? "yes" : "no");
	if (row->serve == count_task_switches)
		report(line, "KVM carries out task switches", "yes", vm->exits >= TASK_SWITCHES ? "yes" : "no");
	if (vm->string_count) {
		uint64_t expected = FNV_START;

		for (unsigned int i = 0; i < 64; i++) {
			const uint16_t value = (uint16_t)(0x1000 + i);

			expected = fnv1a64(expected, &value, sizeof(value));
		}
		report_hex(line, "bytes that came by a port", expected, fnv1a64(FNV_START, vm->string, 128));
	}
}

static void report_rom(struct text *line, const struct vm *vm)
{
	const bool open = way == PLAIN;

	if (row->shuts_down) {
		report_hex(line, "exits because the processor shuts down", 1, vm->shutdown.count);
		report_hex(line, "ioctls that tell a secret of a processor that has shut down, or fail",
			   open ? SHUTDOWN_TELLS : 0, vm->shutdown.told);
	}
	report_hex(line, "what the VMM's code has of the guest's memory when KVM_RUN goes on", open ? SECRET_WORD : 0,
		   vm->shutdown.goes_on);
	report_hex(line, "words of the guest before, for the VMM after the reset", open ? PAGE / 8 : 0, vm->shutdown.words);
}

/* Whether the VMM gets to see the instruction that KVM gave up on: by KVM's word, and anywhere in what it is given. */
static void report_untold(struct text *line, const struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const bool by_word = vm->run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	const bool there = size > 0 && memmem(vm->run, (size_t)size, untold_instruction, UNTOLD_BYTES);
	/* Where the processor was, and what it says of that, is the guest's if its registers are. */
	const bool hides = row->first && way != PLAIN;
	bool of_exit = vm->run->internal.ndata;

	for (unsigned int i = 0; i < sizeof(vm->run->internal.data) / sizeof(*vm->run->internal.data); i++)
		of_exit |= vm->run->internal.data[i] != 0;
	report(line, "KVM gives up on the instruction", "yes",
	       vm->run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? "yes" : "no");
	report(line, "KVM tells the VMM bytes of the instruction", way == PLAIN ? "yes" : "no", by_word ? "yes" : "no");
	report(line, "they are in what KVM and the VMM share", way == PLAIN ? "yes" : "no", there ? "yes" : "no");
	report(line, "KVM tells the VMM what the processor says of the exit", hides ? "no" : "yes", of_exit ? "yes" : "no");
}

/* --- what the host reaches of a range, and by what it took before -------------------------------------------------- */

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
static uint64_t look_at(const unsigned char *page, unsigned int pages, bool some_lack)
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

static uint64_t serve_ranges(struct vm *vm, uint32_t what)
{
	const struct report *const told = at(vm, &shared.report);
	const void *const first = (void *)(uintptr_t)told->word[0];

	if (what == COUNT_MAPPINGS)
		return count_mappings();
	if (what == ADD_SLOT) {
		vm->extra = map(EXTRA_PAGES * PAGE);
		add_memory(vm, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	}
	if (what == ADD_ALIAS) {
		add_memory(vm, 3, 0, EXTRA_SLOT, PAGE, at(vm, (void *)(uintptr_t)RANGE_AT));
		return 0;
	}
	return look_at(at(vm, first), told->word[1], what == COUNT_SPARSE);
}

static struct {
	pthread_t thread;
	const volatile uint64_t *page;
	volatile bool ends;
	volatile uint64_t tries, loads;
} watcher;

/* Loads again and again; a load that faults is none. */
static void *load_all_along(void *unused)
{
	(void)unused;
	while (!watcher.ends) {
		if (!sigsetjmp(after_fault, 1) && *watcher.page == OLD_WORD)
			watcher.loads++;
		watcher.tries++;
	}
	return NULL;
}

static struct {
	pthread_t thread;
	const volatile struct kvm_run *run;
	volatile bool ends;
	volatile uint64_t looks, seen;
} onlooker;

/* Looks without a break at what KVM says of the exit: the first word has flags, or is another exit's. */
static void *look_at_exit(void *unused)
{
	(void)unused;
	while (!onlooker.ends) {
		uint64_t any = 0;

		for (unsigned int i = 1; i < sizeof(onlooker.run->internal.data) / sizeof(*onlooker.run->internal.data); i++)
			any |= onlooker.run->internal.data[i];
		onlooker.seen += any != 0;
		onlooker.looks++;
	}
	return NULL;
}

static uint64_t serve_watched(struct vm *vm, uint32_t what)
{
	(void)what;
	memset(vm->run->internal.data, 0, sizeof(vm->run->internal.data));
	onlooker.run = vm->run;
	errno = pthread_create(&onlooker.thread, NULL, look_at_exit, NULL);
	if (errno)
		cannot("start a thread");
	while (!onlooker.looks)
		sched_yield();
	return 0;
}

static void report_watched(struct text *line, const struct vm *vm)
{
	onlooker.ends = true;
	pthread_join(onlooker.thread, NULL);
	report_hex(line, "exits because KVM gives up on an instruction", GIVE_UPS, vm->given_up);
	report(line, "another thread of the VMM sees what the processor says of them", way == PLAIN ? "yes" : "no",
	       onlooker.seen ? "yes" : "no");
}

/* A kernel before 6.10 cannot, and to a plain guest it makes no difference. */
static void seal(void *where, size_t bytes)
{
	if (syscall(MSEAL, where, bytes, 0) && (way != PLAIN || errno != ENOSYS))
		cannot("seal memory of the VM's");
}

static uint64_t serve_sealed(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT);

	switch (what) {
	case SEAL:
		seal(range + SEAL_FROM * PAGE, (SEAL_PAGES - SEAL_FROM) * PAGE);
		watcher.page = (uint64_t *)range;
		errno = pthread_create(&watcher.thread, NULL, load_all_along, NULL);
		if (errno)
			cannot("start a thread");
		while (!watcher.tries)	/* or the guest might be done before it begins */
			sched_yield();
		return 0;
	case SEAL_REST:
		seal(range + SEAL_FROM * PAGE, (SEAL_PAGES - SEAL_FROM) * PAGE);
		return 0;
	case COUNT_LOADS:
		watcher.ends = true;
		pthread_join(watcher.thread, NULL);
		return watcher.loads;
	default:
		return serve_ranges(vm, what);
	}
}

static uint64_t serve_moves(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT), *const next = range + PAGE;
	unsigned char *const neighbour = (unsigned char *)at(vm, (void *)(uintptr_t)GROUP_AT) + PAGE;
	static bool moved;
	volatile uint64_t bytes = 0;

	switch (what) {
	case FORBID_WRITES:
	case ALLOW_WRITES:
		if (mprotect(range, SEAL_PAGES * PAGE, what == FORBID_WRITES ? PROT_READ : PROT_READ | PROT_WRITE))
			cannot("change what the VMM may do with its memory");
		return 0;
	case MOVE_THERE:	/* it may be refused */
		moved = mremap(range, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, next) == next;
		return 0;
	case MOVE_BACK:
		if (moved && mremap(next, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, range) != range)
			cannot("move a page back");
		return 0;
	case REPLACE:
		if (mmap(neighbour, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			cannot("map memory in the place of the guest's");
		for (unsigned int i = 0; i < PAGE / 8; i++)
			((volatile uint64_t *)neighbour)[i] = NEW_WORD;
		return 0;
	case LOOK_BY_LOAD:
		for (volatile unsigned int i = 0; i < PAGE / 8; i++) {
			if (!sigsetjmp(after_fault, 1) && ((const volatile uint64_t *)next)[i] == NEW_WORD)
				bytes = bytes + 8;
		}
		return bytes;
	default:
		return serve_ranges(vm, what);
	}
}

static void write_setting(const char *name, const char *value)
{
	const int file = open(name, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, value, strlen(value)) < 0)
		cannot(name);
	close(file);
}

/* All allocations may fail, those that can wait too; none does, but for a thread that asks for it. */
static void let_allocations_fail(struct vm *vm)
{
	write_setting("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_setting("/sys/kernel/debug/failslab/verbose", "0");
	write_setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_setting("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_setting("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	prctl(PR_SET_NAME, "fail-nth");	/* the kernel may report an allocation that fails; host_setup/hosts/kernel_log.py */
	vm->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (vm->fail_nth < 0)
		cannot("open /proc/thread-self/fail-nth");
}

/* Gives the VM a new slot, of which first each allocation fails once. Return: how many attempts failed. */
static uint64_t sweep_slots(struct vm *vm)
{
	uint64_t attempts = 0;
	bool failed = true;

	for (uint32_t nth = 1; failed && nth < FAIL_MOST; nth++) {
		struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT,
							      .memory_size = EXTRA_PAGES * PAGE };

		vm->extra = map(EXTRA_PAGES * PAGE);
		memset(vm->extra, 1, EXTRA_PAGES * PAGE);
		region.userspace_addr = (uintptr_t)vm->extra;
		set_fail_nth(vm, nth);
		const int result = ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

		failed = has_failed(vm);
		if (result) {
			unsigned int loaded = 0, written = 0;

			attempts++;
			count_reached(vm->extra, EXTRA_PAGES, &loaded, &written);
			if (loaded != EXTRA_PAGES || written != EXTRA_PAGES)
				snprintf(vm->wrong, sizeof(vm->wrong), "a slot that failed keeps memory: %u, %u pages "
					 "reached, with allocation %u", loaded, written, nth);
		} else if (failed) {	/* it did without; the next one is to be new too */
			region.memory_size = 0;
			if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
				cannot("take the slot away");
		}
	}
	return attempts;
}

static uint64_t serve_failures(struct vm *vm, uint32_t what)
{
	if (!vm->fail_nth)
		let_allocations_fail(vm);
	if (what >= FAIL_NTH) {
		vm->fail_next = what - FAIL_NTH;
		return 0;
	}
	switch (what) {
	case FAILED:
		return vm->failed;
	case SWEEP_SLOTS:
		return sweep_slots(vm);
	default:
		return serve_ranges(vm, what);
	}
}

/* mm/gup_test.h: the kernel's own test of pins, as drivers take them. */
struct pin_longterm_test {
	uint64_t addr, size;
	uint32_t flags;
};

#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, uint64_t)

#define COPY_FROM 0x10000u	/* in the second VM */
#define COPY_TO 0x1000u

static struct {
	int pins, pipe[2], cpu;
	int ring, copied[2];	/* of io_uring, and a pipe for what it writes */
	struct io_uring_sqe *entry;
	struct io_uring_cqe *result;
	uint32_t *tail;
	struct kvm_run *run;
	unsigned char *memory;	/* of the second VM: code, and where it copies to */
} held;

/* A VM over the page: real-mode code that copies it. */
static void make_second_vm(const struct vm *vm, void *page)
{
	static const unsigned char code[] = { 0x66, 0xf3, 0xa5, 0xe6, 0x80 };	/* rep movsd; out %al, $0x80 */
	const struct vm second = { .fd = ioctl(vm->kvm, KVM_CREATE_VM, 0) };
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	held.memory = map(2 * PAGE);
	memcpy(held.memory, code, sizeof(code));
	if (second.fd < 0 || size < 0)
		cannot("create a second VM");
	add_memory(&second, 0, 0, 0, 2 * PAGE, held.memory);
	add_memory(&second, 1, 0, COPY_FROM, PAGE, page);
	held.cpu = ioctl(second.fd, KVM_CREATE_VCPU, 0);
	held.run = held.cpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, held.cpu, 0);
	if (held.run == MAP_FAILED)
		cannot("create a second VM's processor");
}

/* How many bytes of the new pattern there are. */
static uint64_t new_bytes(const void *bytes)
{
	uint64_t count = 0, word;

	for (unsigned int i = 0; i < PAGE; i += sizeof(word)) {
		memcpy(&word, (const unsigned char *)bytes + i, sizeof(word));
		count += word == NEW_WORD ? sizeof(word) : 0;
	}
	return count;
}

/* Has the second VM copy the page; true if it did. */
static bool second_vm_copies(void)
{
	struct kvm_regs regs = { .rflags = 2, .rcx = PAGE / 4 };
	struct kvm_sregs sregs;

	memset(held.memory + COPY_TO, 0, PAGE);
	if (ioctl(held.cpu, KVM_GET_SREGS, &sregs))
		cannot("read the second VM's registers");
	sregs.cs = segment(0, 0, 0xb, MODE16);
	sregs.ds = segment(COPY_FROM, COPY_FROM / 16, 3, MODE16);
	sregs.es = segment(COPY_TO, COPY_TO / 16, 3, MODE16);
	sregs.cr0 = 0x10;
	if (ioctl(held.cpu, KVM_SET_SREGS, &sregs) || ioctl(held.cpu, KVM_SET_REGS, &regs))
		cannot("set the second VM's registers");
	return !ioctl(held.cpu, KVM_RUN, 0) && held.run->exit_reason == KVM_EXIT_IO;
}

static void *map_ring(off_t which)
{
	void *const where = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, held.ring, which);

	if (where == MAP_FAILED)
		cannot("map a ring of io_uring");
	return where;
}

/* A ring for one request, with the page as its buffer; each of its three parts fits into a page. */
static bool register_buffer(void *page)
{
	struct io_uring_params params = { 0 };
	const struct iovec buffer = { page, PAGE };

	held.ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (held.ring < 0 || pipe2(held.copied, O_CLOEXEC | O_NONBLOCK))
		cannot("have a ring of io_uring, and a pipe");
	held.entry = map_ring(IORING_OFF_SQES);
	held.tail = (uint32_t *)((unsigned char *)map_ring(IORING_OFF_SQ_RING) + params.sq_off.tail);
	held.result = (struct io_uring_cqe *)((unsigned char *)map_ring(IORING_OFF_CQ_RING) + params.cq_off.cqes);
	return !syscall(SYS_io_uring_register, held.ring, IORING_REGISTER_BUFFERS, &buffer, 1);
}

/* Has the kernel write the registered buffer into the pipe; true if it did. */
static bool buffer_is_written(void *page)
{
	*held.entry = (struct io_uring_sqe){ .opcode = IORING_OP_WRITE_FIXED, .fd = held.copied[1],
					     .addr = (uintptr_t)page, .len = PAGE };
	__atomic_store_n(held.tail, 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, held.ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		cannot("have io_uring write its buffer");
	return held.result->res == (int)PAGE;
}

static uint64_t take_handles(const struct vm *vm)
{
	struct pin_longterm_test pin = { (uintptr_t)at(vm, operands[PIN_PAGE]), PAGE, 1 };	/* to write */
	struct iovec vector = { at(vm, operands[PIPE_PAGE]), PAGE };
	uint64_t got = 0;

	held.pins = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	if (held.pins < 0 || pipe2(held.pipe, O_CLOEXEC | O_NONBLOCK))
		cannot("open /sys/kernel/debug/gup_test, and a pipe");
	got |= !ioctl(held.pins, PIN_LONGTERM_TEST_START, &pin) ? 1 : 0;
	got |= vmsplice(held.pipe[1], &vector, 1, 0) == (ssize_t)PAGE ? 2 : 0;
	make_second_vm(vm, at(vm, operands[VM_PAGE]));
	got |= second_vm_copies() && *(uint64_t *)(held.memory + COPY_TO) == OLD_WORD ? 4 : 0;
	got |= register_buffer(at(vm, operands[BUFFER_PAGE])) ? 8 : 0;
	return got;
}

static uint64_t serve_handles(struct vm *vm, uint32_t what)
{
	static unsigned char seen[PAGE];
	uint64_t buffer = (uintptr_t)seen;

	memset(seen, 0, sizeof(seen));
	switch (what) {
	case TAKE_HANDLES:
		return take_handles(vm);
	case LOOK_BY_PIN:
		if (ioctl(held.pins, PIN_LONGTERM_TEST_READ, &buffer))
			cannot("read what is pinned");
		return new_bytes(seen);
	case LOOK_BY_PIPE:
		if (read(held.pipe[0], seen, sizeof(seen)) != sizeof(seen))
			cannot("read a page from the pipe");
		return new_bytes(seen);
	case LOOK_BY_BUFFER:
		if (buffer_is_written(at(vm, operands[BUFFER_PAGE])) &&
		    read(held.copied[0], seen, sizeof(seen)) != sizeof(seen))
			cannot("read the buffer from a pipe");
		return new_bytes(seen);
	default:
		second_vm_copies();	/* it may be refused */
		return new_bytes(held.memory + COPY_TO);
	}
}

/* KVM ends a VM of one processor when nobody has any file of it, nor the processor's page mapped. */
static void end_vm(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < 0 || munmap(vm->run, (size_t)size) || close(vm->cpu) || close(vm->fd) || close(vm->kvm))
		cannot("end a VM");
}

/* What another VM of a process is told whose first one is refused, as KVM has an address of the VMM's there. */
static uint64_t ask_ungiven(void)
{
	static const struct row asks = { "another", nothing_more, .operands = operands, .pages = 1 };
	static struct vm another;
	const struct row *const ours = row;

	row = &asks;
	make_vm(&another);
	set_mode(&another, MODE64, guest_begins);
	run_until(&another, PORT_READY);
	row = ours;
	const uint64_t answer = another.wrong[0] ? 1 : ((struct report *)at(&another, &shared.report))->enabled;

	end_vm(&another);
	return answer;
}

/* What another VM of this process is told when it asks for protection. */
static uint64_t ask_another(struct vm *vm, uint32_t what)
{
	static struct vm another;

	if (what == ASK_UNGIVEN)
		return ask_ungiven();
	if (what == END_ANOTHER) {
		end_vm(&another);
		return 0;
	}
	another = (struct vm){ 0 };
	make_vm(&another);
	/* Memory of the first one, which it would have as its own if it had protection. */
	add_memory(&another, 3, 0, EXTRA_SLOT, PAGE, at(vm, operands));
	*(enum way *)at(&another, &way) = way == PLAIN ? PLAIN : PRIVATE;
	set_mode(&another, MODE64, guest_begins);
	run_until(&another, PORT_READY);
	if (another.wrong[0])
		snprintf(vm->wrong, sizeof(vm->wrong), "another VM: %.100s", another.wrong);
	return ((struct report *)at(&another, &shared.report))->enabled;
}

/* --- what KVM must refuse, and what it must not tell ----------------------------------------------------------------- */

static unsigned char *odd;	/* memory of that kind, in a slot of its own */

/* At the offset in the file that the address is: memory that nobody has moved is at such a place. */
static void map_file(unsigned char *where)
{
	const int file = memfd_create("odd", MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, (off_t)(uintptr_t)where + EXTRA_PAGES * PAGE) ||
	    mmap(where, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file,
		 (off_t)(uintptr_t)where) != where)
		cannot("map a file");
	close(file);
	*(volatile unsigned char *)where = 1;
}

static unsigned char *make_odd(enum kind kind)
{
	static const int flags[KINDS] = { [SHARED_BY_FORK] = MAP_SHARED, [GROWS] = MAP_PRIVATE | MAP_GROWSDOWN,
					  [DROPPABLE] = MAY_BE_DROPPED };
	const int ours = flags[kind] ? flags[kind] : MAP_PRIVATE;
	unsigned char *where = mmap(NULL, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, ours | MAP_ANONYMOUS, -1, 0);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)where, .len = EXTRA_PAGES * PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (where == MAP_FAILED && kind == DROPPABLE && way == PLAIN)	/* Linux before 6.11 has no such memory */
		where = map(EXTRA_PAGES * PAGE);
	if (where == MAP_FAILED)
		cannot("map memory");
	*(volatile unsigned char *)where = 1;	/* what was never written is at home wherever it is moved to */
	switch (kind) {
	case HOLE:
	case HOLE_AT_END:
		if (munmap(where + (kind == HOLE ? PAGE : (EXTRA_PAGES - 1) * PAGE), PAGE))
			cannot("make a hole");
		break;
	case OF_A_FILE:
		map_file(where);
		break;
	case UNWRITABLE:
		if (mprotect(where, EXTRA_PAGES * PAGE, PROT_READ))
			cannot("make memory read-only");
		break;
	case UNWRITABLE_AT_END:
		if (mprotect(where + (EXTRA_PAGES - 1) * PAGE, PAGE, PROT_READ))
			cannot("make a page read-only");
		break;
	case MOVED:
		where = mremap(where, EXTRA_PAGES * PAGE, EXTRA_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       map(EXTRA_PAGES * PAGE));
		if (where == MAP_FAILED)
			cannot("move memory");
		break;
	case WATCHED:
		late_page = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		if (late_page < 0 || ioctl(late_page, UFFDIO_API, &api) || ioctl(late_page, UFFDIO_REGISTER, &range))
			cannot("watch memory by userfaultfd");
		break;
	case SEALED:
		seal(where, EXTRA_PAGES * PAGE);
		break;
	default:
		break;
	}
	return where;
}

/* Return: why the slot cannot be had, or 0. */
static uint64_t add_odd(const struct vm *vm, enum kind kind)
{
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT,
						      .memory_size = EXTRA_PAGES * PAGE };

	odd = make_odd(kind);
	region.userspace_addr = (uintptr_t)odd;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
}

static void take_odd_away(const struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT };

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) && errno != EINVAL)	/* there is none */
		cannot("take the slot away");
	munmap(odd, EXTRA_PAGES * PAGE);	/* what is sealed stays */
	if (late_page)
		close(late_page);
	late_page = 0;
}

/* How much this process may lock; it gives up the right to lock more. */
static void limit_locked(rlim_t bytes)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct rights[2];
	const struct rlimit limit = { bytes, RLIM_INFINITY };

	if (syscall(SYS_capget, &header, rights))
		cannot("read what this process may do");
	rights[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
	if (syscall(SYS_capset, &header, rights) || setrlimit(RLIMIT_MEMLOCK, &limit))
		cannot("limit what this process may lock");
}

static uint64_t serve_refusals(struct vm *vm, uint32_t what)
{
	if (what >= ADD_KIND)
		return add_odd(vm, (enum kind)(what - ADD_KIND));
	switch (what) {
	case TAKE_AWAY:
		take_odd_away(vm);
		return 0;
	case LOWER_LIMIT:
		limit_locked(FEW_BYTES);
		return 0;
	case RAISE_LIMIT:	/* the user's other VMs count as well */
		limit_locked(RLIM_INFINITY);
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

#define STATE_BYTES 65536u	/* more than any ioctl tells */

static unsigned char *state;

/* In that order the guest counts them: TELL_SECRET. */
static const unsigned long gets[] = { KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_SREGS2, KVM_GET_FPU, KVM_GET_XSAVE, KVM_GET_XSAVE2,
				      KVM_GET_XCRS, KVM_GET_DEBUGREGS, KVM_GET_VCPU_EVENTS, KVM_GET_MSRS };
static const unsigned long sets[] = { KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_SREGS2, KVM_SET_FPU, KVM_SET_XSAVE, KVM_SET_XCRS,
				      KVM_SET_DEBUGREGS, KVM_SET_VCPU_EVENTS, KVM_SET_MP_STATE, KVM_SET_LAPIC,
				      KVM_SET_NESTED_STATE, KVM_SET_MSRS };

static void name_msrs(void)
{
	struct kvm_msrs *const msrs = (struct kvm_msrs *)state;

	msrs->nmsrs = SECRET_MSRS;
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		msrs->entries[i].index = secret_msrs[i];
}

static void have_state(void)
{
	if (state)
		return;
	state = map(STATE_BYTES + PAGE);
	munmap(state + STATE_BYTES, PAGE);
}

static uint64_t ask_state(int cpu)
{
	const uint32_t secret = (uint32_t)SECRET;	/* as much as fits into any register */
	uint64_t told = 0, failed = 0;

	for (unsigned int i = 0; i < sizeof(gets) / sizeof(*gets); i++) {
		const int done = gets[i] == KVM_GET_MSRS ? SECRET_MSRS : 0;

		memset(state, 0, STATE_BYTES);
		if (done)
			name_msrs();
		failed |= (uint64_t)(ioctl(cpu, gets[i], state) != done) << i;
		told |= (uint64_t)!!memmem(state, STATE_BYTES, &secret, sizeof(secret)) << i;
	}
	return told | failed << 16;
}

/* A plain guest gets another value into two registers; a private one what would end any other. */
static uint64_t set_state(const struct vm *vm)
{
	struct kvm_regs *const regs = (struct kvm_regs *)state;
	struct kvm_lapic_state *const apic = (struct kvm_lapic_state *)(state + PAGE);
	uint64_t refused = 0;

	if (way == PLAIN) {
		if (ioctl(vm->cpu, KVM_GET_REGS, regs))
			return 1;
		regs->r15 = OTHER;
		if (ioctl(vm->cpu, KVM_SET_REGS, regs) || ioctl(vm->cpu, KVM_GET_LAPIC, apic))
			return 1;
		*(uint32_t *)(apic->regs + (TASK_PRIORITY - APIC)) = OTHER_PRIORITY;
		return ioctl(vm->cpu, KVM_SET_LAPIC, apic) != 0;
	}
	for (unsigned int i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		const int done = sets[i] == KVM_SET_MSRS ? SECRET_MSRS : 0;

		memset(state, 0x5a, STATE_BYTES);
		if (done)
			name_msrs();
		refused |= (uint64_t)(ioctl(vm->cpu, sets[i], state) != done) << i;
	}
	return refused;
}

/* Addresses without memory, too many registers, and what is not offered with private registers. */
static uint64_t ask_wrongly(const struct vm *vm)
{
	unsigned char *const end = state + STATE_BYTES;	/* nothing is mapped behind it */
	struct kvm_msrs *const last = (struct kvm_msrs *)(end - sizeof(*last)), *const many = (struct kvm_msrs *)state;
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };
	const struct {
		unsigned long number;
		void *argument;
		int error;
		bool plain;	/* so in a plain guest too */
	} wrong[] = {
		{ KVM_GET_REGS, NULL, EFAULT, true },
		{ KVM_GET_MSRS, NULL, EFAULT, true },
		{ KVM_SET_REGS, NULL, EFAULT, true },
		{ KVM_SET_SREGS, NULL, EFAULT, true },
		{ KVM_SET_SREGS, end - offsetof(struct kvm_sregs, cr0), EFAULT, true },
		{ KVM_GET_MSRS, last, EFAULT, true },
		{ KVM_GET_MSRS, many, E2BIG, true },
		{ KVM_SET_MSRS, many, E2BIG, true },
		{ KVM_SET_GUEST_DEBUG, &debug, EINVAL, false },
		{ KVM_SMI, NULL, EINVAL, false },
	};
	uint64_t otherwise = 0;

	memset(state, 0, STATE_BYTES);
	last->nmsrs = 1;
	many->nmsrs = 256;	/* Linux: arch/x86/kvm/x86.c MAX_IO_MSRS */
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		if (way == PLAIN && !wrong[i].plain)
			continue;
		if (ioctl(vm->cpu, wrong[i].number, wrong[i].argument) != -1 || errno != wrong[i].error)
			otherwise |= 1ull << i;
	}
	return otherwise;
}

/* The port's access is complete when KVM_RUN begins. Return: how many bytes of it are in the page then. */
static uint64_t count_port_data(const struct vm *vm)
{
	const unsigned char *const data = (unsigned char *)vm->run + vm->run->io.data_offset;
	uint64_t count = 0;

	vm->run->immediate_exit = 1;
	if (!ioctl(vm->cpu, KVM_RUN, 0) || errno != EINTR)
		cannot("complete an access to a port");
	vm->run->immediate_exit = 0;
	for (unsigned int i = 0; i < sizeof(uint32_t); i++)
		count += data[i] != 0;
	return count;
}

static uint64_t serve_state(struct vm *vm, uint32_t what)
{
	have_state();
	switch (what) {
	case ASK_STATE:
		return ask_state(vm->cpu);
	case SET_STATE:
		return set_state(vm);
	case COUNT_PORT_DATA:
		return count_port_data(vm);
	case ASK_RUN:
		return vm->run->cr8 | (uint64_t)vm->run->if_flag << 8 | (uint64_t)vm->run->flags << 16;
	default:
		return ask_wrongly(vm);
	}
}

static uint64_t serve_refused_state(struct vm *vm, uint32_t what)
{
	return what >= ASK_STATE ? serve_state(vm, what) : serve_refusals(vm, what);
}

/* --- what a VMM prepares ------------------------------------------------------------------------------------------ */

#define RUN_US 1000000	/* for a processor to get to work */

/* A message to a processor as from a device (KVM_SIGNAL_MSI). */
static void send_message(const struct vm *vm, uint32_t whom, uint32_t data)
{
	struct kvm_msi message = { .address_lo = APIC | whom << 12, .data = data };

	if (ioctl(vm->fd, KVM_SIGNAL_MSI, &message) < 0)
		cannot("send a message to a processor");
}

/* What the processor says of itself, as it is or under another name. Return: why KVM does not take it, or 0. */
static uint64_t offer_again(int cpu, bool renamed)
{
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(cpu, KVM_GET_CPUID2, table))
		cannot("ask for a virtual CPU's CPUID");
	for (uint32_t i = 0; i < table->nent; i++)
		table->entries[i].eax ^= renamed && table->entries[i].function == 0x80000002;	/* of the brand string */
	const uint64_t result = ioctl(cpu, KVM_SET_CPUID2, table) ? (uint64_t)errno : 0;

	free(table);
	return result;
}

/* Runs a processor until it exits, or for a while if it waits. Return: whether it exits; else errno says why not. */
static bool run_a_while(int cpu)
{
	const struct itimerval soon = { { 0, RUN_US / 4 }, { RUN_US / 1000000, RUN_US % 1000000 } };
	const sig_atomic_t before = alarms;
	int result, error;

	setitimer(ITIMER_REAL, &soon, NULL);
	do {
		result = ioctl(cpu, KVM_RUN, 0);
		error = errno;
	} while (result && (error == EAGAIN || error == EINTR) && alarms == before);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	alarm(DEADLINE_S);
	errno = error;
	return !result;
}

/* Whether it comes to its port; one that waits to be started is left waiting after a while. */
static uint64_t run_second(struct vm *vm)
{
	const struct kvm_run *const run = vm->second_run;
	bool exits;

	while ((exits = run_a_while(vm->second))) {
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_MANAGED)
			vm->managed++;
		else if (run->exit_reason == KVM_EXIT_DEBUG)
			vm->steps++;
		else
			break;
	}
	const bool at_work = exits && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_SECOND;

	if (!at_work && (exits || (errno != EINTR && errno != EAGAIN)))
		snprintf(vm->wrong, sizeof(vm->wrong), "the second processor: %s, exit %u (%u)",
			 exits ? "done" : strerrorname_np(errno), run->exit_reason,
			 run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0);
	return at_work;
}


/* The second processor is told that it is Hyper-V's, and the VMM may have its hypercalls. */
static void be_hyper_v(const struct vm *vm)
{
	const struct vm second = { .cpu = vm->second };
	const struct kvm_enable_cap messages = { .cap = KVM_CAP_HYPERV_SYNIC };
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(vm->second, KVM_GET_CPUID2, table))
		cannot("ask for a virtual CPU's CPUID");
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == CPUID_INTERFACE)
			table->entries[i].eax = IS_HYPER_V;
	}
	if (ioctl(vm->second, KVM_SET_CPUID2, table) || ioctl(vm->second, KVM_ENABLE_CAP, &messages))
		cannot("have a processor of Hyper-V's");
	free(table);
	give_address(&second, HYPER_V_GUEST, 1);
}

/* Whether it tells the VMM the secret by an exit, and does not just come to its port. */
static uint64_t run_for_hyper_v(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const uint64_t secret = SECRET;

	if (!run_a_while(vm->second))
		cannot("run a processor of Hyper-V's");
	if (vm->second_run->exit_reason == KVM_EXIT_HYPERV)
		return size > 0 && memmem(vm->second_run, (size_t)size, &secret, sizeof(secret));
	if (vm->second_run->exit_reason != KVM_EXIT_IO || vm->second_run->io.port != PORT_SECOND)
		wrong_exit(vm, "the second processor: exit", vm->second_run->exit_reason);
	return 0;
}

/* 0 when it comes to the second processor's port; else the errno of KVM_RUN. */
static uint64_t run_twin(struct vm *vm)
{
	if (!run_a_while(vm->third))
		return (uint64_t)errno;
	return vm->third_run->exit_reason == KVM_EXIT_IO && vm->third_run->io.port == PORT_SECOND ? 0 : OTHER_EXIT;
}

/* The guest's vector registers are of 256 bits. QEMU's emulation of a processor lets no guest of a guest do it itself. */
static void widen(int cpu)
{
	const struct kvm_xcrs wide = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = 7 } } };	/* x87, SSE, AVX */

	if (ioctl(cpu, KVM_SET_XCRS, &wide))
		cannot("have vector registers of 256 bits");
}

/* Whether the VMM is told what stands in the upper half of a vector register. */
static bool tells_upper(int cpu)
{
	const uint64_t upper = UPPER;

	memset(state, 0, STATE_BYTES);
	if (ioctl(cpu, KVM_GET_XSAVE, state))
		cannot("read a virtual CPU's vector registers");
	return memmem(state, STATE_BYTES, &upper, sizeof(upper));
}

/* As a VMM resets a machine: the processor that boots is at its reset vector. */
static void set_to_reset(struct vm *vm)
{
	struct kvm_regs regs = { .rflags = 2, .rip = 0xfff0 };
	struct kvm_sregs sregs;

	vm->report = *(struct report *)at(vm, &shared.report);
	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.cs = segment(0xffff0000, 0xf000, 0xb, MODE16);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0, 0, 3, MODE16);
	sregs.cr0 = 0x60000010;
	sregs.cr3 = sregs.cr4 = sregs.efer = 0;
	if (ioctl(vm->cpu, KVM_SET_REGS, &regs) || ioctl(vm->cpu, KVM_SET_SREGS, &sregs))
		cannot("reset the VM's registers");
}

/* Registers that hold no secret, and by which the next guest would go on where the one before was; a bit each. */
static uint64_t ask_kept(int cpu)
{
	static const struct {
		uint32_t number;
		uint64_t reset;
	} registers[] = { { MSR_PAT, PAT_OF_A_RESET }, { MSR_SYSENTER_CS, 0 }, { MSR_SAVE_AREA, 0 }, { MSR_SMBASE, SMM_BASE } };
	struct kvm_xcrs xcrs = { 0 };
	unsigned int i = 0;
	uint64_t kept = 0;

	for (; i < sizeof(registers) / sizeof(*registers); i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = { { .nmsrs = 1 }, { .index = registers[i].number } };

		if (ioctl(cpu, KVM_GET_MSRS, &one) != 1)
			cannot("read a virtual CPU's register");
		kept |= (uint64_t)(one.entry.data != registers[i].reset) << i;
	}
	if (ioctl(cpu, KVM_GET_XCRS, &xcrs))
		cannot("read which vector registers a virtual CPU has");
	return kept | (uint64_t)(xcrs.xcrs[0].value != 1) << i;
}

/* Then it runs, whatever comes of that. */
static void reset_machine(struct vm *vm)
{
	set_to_reset(vm);
	vm->over = true;
	vm->after_reset[0] = ask_state(vm->cpu);
	vm->upper_after_reset[0] = tells_upper(vm->cpu);
	ioctl(vm->cpu, KVM_RUN, 0);
	vm->after_reset[1] = ask_state(vm->cpu);
	vm->upper_after_reset[1] = tells_upper(vm->cpu);
	vm->kept_by_reset = ask_kept(vm->cpu);
	vm->after_reset[2] = ask_state(vm->second);
}

static void report_reset(struct text *line, const struct vm *vm)
{
	const bool told = way == PLAIN;

	report_hex(line, "ioctls that tell a secret of the first processor, set to be reset", told ? FIRST_TELLS : 0,
		   vm->after_reset[0]);
	report_hex(line, "ioctls that tell a secret of the first processor, reset", told ? FIRST_TELLS : 0,
		   vm->after_reset[1]);
	report_hex(line, "of PAT, SYSENTER_CS, VM_HSAVE_PA, SMBASE and XCR0 of the first processor, those that are not as after "
		   "a reset", told ? 0x1f : 0, vm->kept_by_reset);
	report_hex(line, "KVM_GET_XSAVE tells the upper half of a vector register, set to be reset", told,
		   vm->upper_after_reset[0]);
	report_hex(line, "KVM_GET_XSAVE tells the upper half of a vector register, reset", told, vm->upper_after_reset[1]);
	report_hex(line, "ioctls that tell a secret of the second processor, after the first was reset",
		   told ? SECOND_TELLS : 0, vm->after_reset[2]);
}

static uint64_t serve_second(struct vm *vm, uint32_t what)
{
	static const unsigned char firmware[] = { 0xe6, PORT_SECOND, 0xf4 };	/* out %al, $PORT_SECOND; hlt */
	const struct vm second = { .cpu = vm->second };
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct kvm_regs init = { .rflags = 2 };

	have_state();
	switch (what) {
	case SET_SECOND:
		set_mode(&second, MODE64, second_begins);
		let_run(vm->second);
		return 0;
	case START_SECOND:
		memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
		send_message(vm, 1, DELIVER_INIT);
		send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
		return 0;
	case WIDEN:
		widen(vm->cpu);
		return 0;
	case RUN_SECOND:
		return run_second(vm);
	case OFFER_SECOND_THE_SAME:
	case OFFER_SECOND_ANOTHER:
		return offer_again(vm->second, what == OFFER_SECOND_ANOTHER);
	case STEP_SECOND:	/* INIT keeps it if it is asked for where INIT puts the processor, as KVM sees it: RIP is 0 yet */
		if (ioctl(vm->second, KVM_SET_REGS, &init) || ioctl(vm->second, KVM_SET_GUEST_DEBUG, &debug))
			cannot("step through the second processor's code");
		return 0;
	case COUNT_SECOND_STEPS:
		return vm->steps;
	case ASK_SECOND:
		return ask_state(vm->second);
	case INTERRUPT_FOR_MANAGEMENT:
		send_message(vm, 0, DELIVER_SMI);
		return 0;
	case INTERRUPT_ALL_FOR_MANAGEMENT:
		send_message(vm, EVERY_PROCESSOR, DELIVER_SMI);
		return 0;
	case INTERRUPT_SECOND:
		if (ioctl(vm->second, KVM_SMI))
			cannot("interrupt the second processor for system management");
		return 0;
	case COUNT_MANAGED:
		return vm->managed;
	case ADD_TWIN:
		add_twin(vm);
		return 0;
	case RUN_TWIN:
		return run_twin(vm);
	case BE_HYPER_V:
		be_hyper_v(vm);
		return 0;
	case RUN_FOR_HYPER_V:
		return run_for_hyper_v(vm);
	default:
		reset_machine(vm);
		return 0;
	}
}

/* The timer of the first processor's APIC is to put it at its reset vector (INIT), where the VMM has code of its own. */
static void set_timer(struct vm *vm)
{
	static const unsigned char firmware[] = { 0xe6, PORT_ANEW, 0xf4 };	/* out %al, $PORT_ANEW; hlt */
	static const struct {
		uint32_t at, value;
	} registers[] = { { 0xf0, 0x1ff }, { 0x320, TIMER_SENDS_INIT }, { 0x3e0, 0xb }, { 0x380, TIMER_NS }, { 0x390, TIMER_NS } };
	struct kvm_lapic_state apic;

	vm->extra = map(EXTRA_PAGES * PAGE);
	memcpy(vm->extra + RESET_VECTOR % PAGE, firmware, sizeof(firmware));
	add_memory(vm, 3, 0, RESET_VECTOR & ~(PAGE - 1), PAGE, vm->extra);
	if (ioctl(vm->cpu, KVM_GET_LAPIC, &apic))
		cannot("read the first processor's APIC");
	for (unsigned int i = 0; i < sizeof(registers) / sizeof(*registers); i++)
		*(uint32_t *)(apic.regs + registers[i].at) = registers[i].value;
	if (ioctl(vm->cpu, KVM_SET_LAPIC, &apic))
		cannot("set the first processor's timer");
}

static uint64_t serve_timer(struct vm *vm, uint32_t what)
{
	const struct timespec longer = { .tv_sec = 1, .tv_nsec = TIMER_NS / 4 };

	if (what == SET_TIMER)
		set_timer(vm);
	else
		nanosleep(&longer, NULL);
	return 0;
}

/* Exits for registers of the guest's and for its task priority, and for each of its instructions. */
static void prepare_exits(const struct vm *vm)
{
	static unsigned char no_access[8];
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
				      .args = { KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN |
						KVM_MSR_EXIT_REASON_INVAL } };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = { { .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = MSR_LSTAR,
			      .bitmap = no_access } },
	};
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct kvm_tpr_access_ctl priority = { .enabled = 1 };

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) || ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter))
		cannot("ask for exits by a register");
	if (ioctl(vm->cpu, KVM_SET_GUEST_DEBUG, &debug))
		cannot("step through the guest");
	if (ioctl(vm->cpu, KVM_TPR_ACCESS_REPORTING, &priority))
		cannot("ask for exits by the task priority");
}

/* Those of SECRET_MSRS, in three ranges; or none. */
static void deny_registers(const struct vm *vm, bool any)
{
	static unsigned char no_access[8];
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	static const struct {
		uint32_t base, count;
	} ranges[] = { { 0xc0000081, 4 }, { 0x175, 2 }, { 0xc0000102, 2 } };

	for (unsigned int i = 0; any && i < sizeof(ranges) / sizeof(*ranges); i++)
		filter.ranges[i] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
								  .nmsrs = ranges[i].count, .base = ranges[i].base,
								  .bitmap = no_access };
	if (ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter))
		cannot("deny registers");
}

/* Whether the host's kernel is older than that release. */
static bool older_than(unsigned int major, unsigned int minor)
{
	unsigned int of[2];
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &of[0], &of[1]) != 2)
		cannot("read the release of the host's kernel");
	return of[0] < major || (of[0] == major && of[1] < minor);
}

static uint64_t serve_exits(struct vm *vm, uint32_t what)
{
	struct kvm_guest_debug none = { 0 };
	/* Without a register for its page KVM does not look for such hypercalls. */
	struct kvm_xen_hvm_config config = { .flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000 };

	switch (what) {
	case PREPARE_EXITS:
		prepare_exits(vm);
		return 0;
	case COUNT_FROM_NOW:
		vm->steps = 0;
		return 0;
	case COUNT_STEPS:
		return vm->steps;
	case END_STEPS:
		ioctl(vm->cpu, KVM_SET_GUEST_DEBUG, &none);	/* it may be refused */
		return 0;
	case COUNT_TOLD:
		return vm->told;
	case COUNT_PRIORITIES:
		return vm->priorities;
	case DENY_REGISTERS:
	case DENY_NOTHING:
		deny_registers(vm, what == DENY_REGISTERS);
		return 0;
	case TAKE_REGISTER:
	case TAKE_KVMS_REGISTER:
		config.msr = what == TAKE_REGISTER ? MSR_PAT : MSR_POLL_CONTROL;
		return ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config) ? (uint64_t)errno : 0;
	case BEFORE_6_15:
		return older_than(6, 15);
	default:
		if (ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config))
			cannot("ask for the hypercalls of another hypervisor");
		return 0;
	}
}

static void fill_words(unsigned char *where, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((volatile uint64_t *)where)[i] = NEW_WORD;
}

/* Deletes a slot, and has one there with another content. Return: where that is. */
static unsigned char *replace_slot(const struct vm *vm, uint32_t flags)
{
	unsigned char *const ours = map(SLOT_PAGES * PAGE);

	fill_words(ours, SLOT_PAGES * PAGE);
	add_memory(vm, 1, 0, SLOT_LOGGED, 0, vm->logged);
	add_memory(vm, 1, flags, SLOT_LOGGED, SLOT_PAGES * PAGE, ours);
	return ours;
}

/* Whether a large page is there now; it is collapsed whatever the host's setting is. */
static bool make_large(unsigned char *where)
{
	char line[256];
	bool ours = false, large = false;
	unsigned long start, end, size;
	FILE *smaps;

	if (mmap(where, BIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		cannot("map memory in the place of the guest's");
	fill_words(where, BIG_BYTES);
	madvise(where, BIG_BYTES, COLLAPSE);
	smaps = fopen("/proc/self/smaps", "re");
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = start <= (unsigned long)where && end > (unsigned long)where;
		if (ours && sscanf(line, "AnonHugePages: %lu kB", &size) == 1)
			large = size;
	}
	if (smaps)
		fclose(smaps);
	return large;
}

static uint64_t serve_slots(struct vm *vm, uint32_t what)
{
	static unsigned char *refused;
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = BEYOND, .memory_size = PAGE };
	uint64_t words = 0;

	switch (what) {
	case REPLACE_SLOT:
	case REPLACE_BY_WRITABLE:
		replace_slot(vm, what == REPLACE_SLOT ? KVM_MEM_READONLY : 0);
		return 0;
	case REPLACE_BY_CODE:
		*replace_slot(vm, KVM_MEM_READONLY) = 0xc3;	/* ret */
		return 0;
	case REPLACE_BY_TABLE:	/* the VMM knows where the guest has its pages */
		((uint64_t *)replace_slot(vm, KVM_MEM_READONLY))[IN_ENTRIES] =
			(uintptr_t)operands[SECOND] | TABLE | ACCESSED | DIRTY;
		return 0;
	case FAIL_SLOT:
		refused = map(PAGE);
		fill_words(refused, PAGE);
		region.userspace_addr = (uintptr_t)refused;
		return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
	case LOOK_AT_FAILED:
		for (unsigned int i = 0; i < PAGE / 8; i++)
			words += ((volatile uint64_t *)refused)[i] == NEW_WORD;
		return words;
	case MAKE_LARGE:
		return make_large(vm->ram + BIG);
	default:
		return *(volatile uint64_t *)(vm->ram + BIG + 8 * PAGE) == SECRET;
	}
}

static void change_slot(const struct vm *vm, uint32_t slot, uint64_t where, uint64_t size, void *page)
{
	if (row->one_space)
		add_to_space(vm, 0, slot, 0, where, size, page);
	else
		add_memory(vm, slot, 0, where, size, page);
}

/* What the guest has behind a page number: a page, another one, or nothing. */
static void put_page(const struct vm *vm, uint32_t slot, uint64_t where, void *page)
{
	static bool there[8];

	if (there[slot])
		change_slot(vm, slot, where, 0, page);
	there[slot] = page;
	if (page)
		change_slot(vm, slot, where, PAGE, page);
}

/* A vector of the VM's for Xen's events, and one of these; the errno, or 0. */
static uint64_t raise_upcall(const struct vm *vm)
{
	unsigned char *const info = map(PAGE);	/* struct vcpu_info: its first byte says that an event is pending */
	struct kvm_xen_hvm_config config = { .flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000 };
	struct kvm_xen_hvm_attr wide = { .type = KVM_XEN_ATTR_TYPE_LONG_MODE, .u.long_mode = 1 };
	struct kvm_xen_hvm_attr vector = { .type = KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, .u.vector = UPCALL_VECTOR };
	struct kvm_xen_vcpu_attr where = { .type = XEN_VCPU_INFO_HVA, .u.gpa = (uintptr_t)info };

	if (ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config) || ioctl(vm->fd, KVM_XEN_HVM_SET_ATTR, &wide) ||
	    ioctl(vm->fd, KVM_XEN_HVM_SET_ATTR, &vector))
		return (uint64_t)errno;
	if (way == PLAIN && older_than(6, 9)) {	/* it takes the guest's address alone */
		add_memory(vm, 3, 0, ONE_AT, PAGE, info);
		where.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO;
		where.u.gpa = ONE_AT;
	}
	if (ioctl(vm->cpu, KVM_XEN_VCPU_SET_ATTR, &where))
		return (uint64_t)errno;
	info[0] = 1;
	return 0;
}

static uint64_t serve_exchanges(struct vm *vm, uint32_t what)
{
	static unsigned char *one, *other;	/* behind the first is another page, of one mapping with it */
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = ONE_AT, .memory_size = PAGE };

	if (!one) {
		one = map(2 * PAGE);
		other = map(PAGE);
	}
	switch (what) {
	case PUT_BOTH:
		put_page(vm, 4, OTHER_AT, other);
		put_page(vm, 3, ONE_AT, one);
		return 0;
	case PUT_ONE:
	case PUT_OLDER:
		put_page(vm, 3, ONE_AT, one);
		return 0;
	case PUT_NEWER:
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case EXCHANGE:
		put_page(vm, 3, ONE_AT, NULL);
		put_page(vm, 4, OTHER_AT, one);
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case PUT_SECOND_NUMBER:
		put_page(vm, 4, OTHER_AT, one);
		return 0;
	case PUT_BESIDE:
		put_page(vm, 3, ONE_AT, one);
		put_page(vm, 4, BESIDE_AT, one + PAGE);
		return 0;
	case PUT_NEWER_BESIDE:
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case PUT_OLDER_BESIDE:
		put_page(vm, 3, ONE_AT, NULL);
		add_memory(vm, 3, 0, ONE_AT, 2 * PAGE, one);
		return 0;
	case PUT_OURS:
		if (mmap(other, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != other)
			cannot("map memory in the place of the guest's");
		fill_words(other, PAGE);
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case MOVE_AWAY:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, other) != other)
			cannot("move a page away");
		return 0;
	case MOVE_AND_MAP:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) != other ||
		    mmap(one, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != one)
			cannot("move a page away and map another one");
		return 0;
	case BRING_BACK:
		if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, one) != one)
			cannot("bring a page back");
		return 0;
	case RENEW:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) != other ||
		    mmap(one, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != one)
			cannot("move a page away and map another one");
		put_page(vm, 3, ONE_AT, NULL);
		region.userspace_addr = (uintptr_t)one;
		return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
	default:
		return raise_upcall(vm);
	}
}

/* A plain guest's memory, or of a protected guest's VMM a page of its own. */
static void lay_in_window(struct vm *vm)
{
	void *const window = (void *)(uintptr_t)KVMS_WINDOW;

	if (way == PLAIN)
		vm->extra = mremap(vm->extra, FILLED_PAGES * PAGE, FILLED_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, window);
	else if (mmap(window, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == window)
		fill_words(window, PAGE);
	else
		vm->extra = MAP_FAILED;
	if (vm->extra == MAP_FAILED)
		cannot("have memory where KVM has its window");
}

/* Has a slot of its own for memory that was filled, in place of the one before. */
static void fill_slot(struct vm *vm)
{
	unsigned char *const before = vm->extra;

	if (before) {
		add_memory(vm, 3, 0, EXTRA_SLOT, 0, before);
		munmap(before, FILLED_PAGES * PAGE);
	}
	vm->extra = map(FILLED_PAGES * PAGE);
	if (row->has_stack_in_window)
		lay_in_window(vm);
	fill_words(vm->extra, FILLED_PAGES * PAGE);
	add_memory(vm, 3, 0, EXTRA_SLOT, FILLED_PAGES * PAGE, vm->extra);
}

/* Changes what the VMM may do there, all along. */
static struct {
	pthread_t thread;
	unsigned char *where;
	volatile bool ends, merged;
} changer;

static void *change_rights(void *unused)
{
	(void)unused;
	while (!changer.ends) {
		if (mprotect(changer.where, (EXTRA_PAGES + 1) * PAGE, PROT_READ) ||
		    mprotect(changer.where, (EXTRA_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE))
			cannot("change what the VMM may do with its memory");
	}
	return NULL;
}

static bool is_loaded(const unsigned char *page)
{
	if (sigsetjmp(after_fault, 1))
		return false;
	*(volatile const unsigned char *)page;
	return true;
}

/*
 * Asks again and again for a slot behind the guest's, until the mappings have merged: then its memory stays private, or
 * all of it is open. Return: what KVM says, where that is not that another thread was changing the memory.
 */
static uint64_t refuse_beside(const struct vm *vm)
{
	unsigned char *const beside = vm->extra + EXTRA_PAGES * PAGE;
	struct kvm_userspace_memory_region region = { .slot = 4, .guest_phys_addr = BEYOND, .memory_size = PAGE,
						      .userspace_addr = (uintptr_t)beside };
	const sig_atomic_t before = alarms;
	uint64_t said = 0;

	changer.where = vm->extra;
	errno = pthread_create(&changer.thread, NULL, change_rights, NULL);
	if (errno)
		cannot("start a thread");
	for (unsigned int left = way == PLAIN ? 1 : BESIDE_MOST; left && !changer.merged && alarms == before; left--) {
		if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
			break;
		if (errno != EOPNOTSUPP)
			said = (uint64_t)errno;
		changer.merged = !is_loaded(beside) || (way != PLAIN && is_loaded(vm->extra));
	}
	changer.ends = true;
	pthread_join(changer.thread, NULL);
	return said;
}

#define MANAGED_SPACE 1u	/* of system management mode (Documentation/virt/kvm/api.rst 4.35) */

/* Memory in that mode's address space alone, with content. */
static void add_managed(struct vm *vm, uint32_t slot, uint64_t gpa)
{
	vm->extra = map(EXTRA_PAGES * PAGE);
	memset(vm->extra, 1, EXTRA_PAGES * PAGE);
	add_to_space(vm, MANAGED_SPACE, slot, 0, gpa, EXTRA_PAGES * PAGE, vm->extra);
}

/* One slot becomes two, with a page number between them, behind which comes a page that has one already. */
static void put_in_window(const struct vm *vm)
{
	const uint32_t place = (uint32_t)row->ends_at, behind = place + PAGE;

	add_to_space(vm, 0, 0, 0, 0, 0, vm->ram);
	add_to_space(vm, 0, 0, 0, 0, place, vm->ram);
	add_to_space(vm, 0, 3, 0, behind, RAM_BYTES - behind, vm->ram + behind);
	add_to_space(vm, 0, 4, 0, place, PAGE, vm->ram + RANGE_AT);
}

/* Moves a page of the guest's to the VMM's, and waits until the VMM has looked, each time. */
static struct {
	pthread_t thread;
	unsigned char *guests, *vmms;
	volatile bool ends, goes, there, met;
	unsigned int tries;
} mover;

static void *move_guests(void *unused)
{
	(void)unused;
	while (!mover.ends) {
		if (!mover.goes)
			continue;
		for (volatile unsigned int wait = mover.tries++ % LONGEST_WAIT; wait; wait--)
			;
		if (mremap(mover.guests, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mover.vmms) != mover.vmms)
			cannot("move a page");
		mover.goes = false;
		mover.there = true;
	}
	return NULL;
}

/* Bytes of the guest's page that the VMM loads. */
static uint64_t guests_bytes(const unsigned char *page)
{
	volatile uint64_t bytes = 0;

	if (sigsetjmp(after_fault, 1))
		return bytes;
	for (unsigned int i = 0; i < PAGE / 8; i++)
		bytes += 8 * (((const volatile uint64_t *)page)[i] == OLD_WORD);
	return bytes;
}

static void move_home(void)
{
	if (mremap(mover.vmms, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mover.guests) != mover.guests ||
	    mmap(mover.vmms, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mover.vmms)
		cannot("move a page back");
	*mover.vmms = 1;
	mover.there = false;
}

/*
 * Asks again and again for a slot behind the guest's, until a page of the guest's has come to its memory after KVM has
 * made that private and before KVM gives it back: then the VMM can load there. Return: what it loads of the guest's.
 */
static uint64_t refuse_moved(const struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .slot = 4, .guest_phys_addr = BEYOND, .memory_size = PAGE };
	const sig_atomic_t before = alarms;

	mover.guests = vm->extra;
	mover.vmms = vm->extra + EXTRA_PAGES * PAGE;
	region.userspace_addr = (uintptr_t)mover.vmms;
	errno = pthread_create(&mover.thread, NULL, move_guests, NULL);
	if (errno)
		cannot("start a thread");
	while (!mover.met && alarms == before) {
		mover.goes = true;
		if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
			break;
		while (!mover.there)
			sched_yield();
		mover.met = is_loaded(mover.vmms);
		if (!mover.met)
			move_home();
	}
	mover.ends = true;
	pthread_join(mover.thread, NULL);
	return guests_bytes(mover.vmms);
}

static uint64_t serve_places(struct vm *vm, uint32_t what)
{
	switch (what) {
	case ADD_SLOT_BESIDE:
		vm->extra = map((EXTRA_PAGES + 1) * PAGE);
		vm->extra[EXTRA_PAGES * PAGE] = 1;	/* or its pages could not be of one mapping with the others (anon_vma) */
		add_memory(vm, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	case REFUSE_BESIDE:
		return refuse_beside(vm);
	case TELL_MERGED:
		return changer.merged;
	case ADD_FAR_SLOT:
		vm->far = mmap(NULL, FAR_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (vm->far == MAP_FAILED)
			cannot("map 5 GiB");
		add_memory(vm, 3, 0, FAR_SLOT, FAR_BYTES, vm->far);
		return 0;
	case LOOK_NEAR:
		return look_at(vm->far + NEAR_OFFSET, 1, false);
	case LOOK_FAR:
		return look_at(vm->far + FAR_OFFSET, 1, false);
	case ADD_MANAGED:
		add_managed(vm, 3, EXTRA_SLOT);
		return 0;
	case ADD_MANAGED_LATER:
		add_managed(vm, 4, BEHIND_SLOT);
		return 0;
	case MANAGE:
		return raise_smi(vm, 0);
	case DELETE_MANAGED:
		add_to_space(vm, MANAGED_SPACE, 3, 0, EXTRA_SLOT, 0, vm->extra);
		return 0;
	case PUT_IN_WINDOW:
		put_in_window(vm);
		return 0;
	case ADD_TWO_SPACES:
		add_managed(vm, 3, EXTRA_SLOT);
		vm->extra = map(EXTRA_PAGES * PAGE);
		add_to_space(vm, 0, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	case REFUSE_MOVED:
		return refuse_moved(vm);
	case TELL_MOVED:
		return mover.met;
	case LOOK_MANAGED:	/* KVM empties what comes later */
		return look_at(vm->extra, EXTRA_PAGES, true);
	case ADD_BEHIND:
		vm->extra = map(EXTRA_PAGES * PAGE);
		/* The first of two pages keeps the number that this gives it; the second gets another one. */
		add_memory(vm, 3, 0, EXTRA_SLOT, 2 * PAGE, vm->extra);
		add_memory(vm, 3, 0, EXTRA_SLOT, 0, vm->extra);
		add_memory(vm, 4, 0, BEHIND_SLOT, PAGE, vm->extra + PAGE);
		return 0;
	case ADD_BEFORE:
		add_memory(vm, 3, 0, EXTRA_SLOT, 2 * PAGE, vm->extra);
		return 0;
	case ADD_AND_MOVE_SLOT:
		vm->extra = map(PAGE);
		add_memory(vm, 3, 0, EXTRA_SLOT, PAGE, vm->extra);
		add_memory(vm, 3, 0, BEHIND_SLOT, PAGE, vm->extra);
		return 0;
	case DELETE_SLOT:
		add_memory(vm, 3, 0, BEHIND_SLOT, 0, vm->extra);
		return 0;
	case TELL_STORED:
		return vm->mmio;
	case FILL_SLOT:
		fill_slot(vm);
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

/*
 * Frees pages of the guest's, some at a time, all along. In between is time for a page fault of the guest's to end: KVM
 * begins it anew if pages have gone meanwhile.
 */
static struct {
	pthread_t thread;
	unsigned char *pages;
	volatile bool ends;
} freer;

static void *free_along(void *unused)
{
	(void)unused;
	for (unsigned int page = 0; !freer.ends; page = (page + FREED_AT_ONCE) % FREED_PAGES) {
		if (madvise(freer.pages + page * PAGE, FREED_AT_ONCE * PAGE, MADV_DONTNEED))
			cannot("free some memory");
		usleep(FREED_PAUSE_US);
	}
	return NULL;
}

static uint64_t serve_freed(struct vm *vm, uint32_t what)
{
	freer.pages = at(vm, (void *)(uintptr_t)RANGE_AT);
	switch (what) {
	case FREE_ALL:
		if (madvise(freer.pages, FREED_PAGES * PAGE, MADV_DONTNEED))
			cannot("free memory");
		return 0;
	case FREE_ALONG:
		freer.ends = false;
		errno = pthread_create(&freer.thread, NULL, free_along, NULL);
		if (errno)
			cannot("start a thread");
		return 0;
	default:
		freer.ends = true;
		pthread_join(freer.thread, NULL);
		return 0;
	}
}

/* --- addresses that the VMM gives KVM ----------------------------------------------------------------------------- */

/* A timer of Hyper-V's that is over, whose message goes to a place in that page. */
static void give_page_for_messages(const struct vm *vm, uint64_t page)
{
	const struct kvm_enable_cap messages = { .cap = KVM_CAP_HYPERV_SYNIC };

	if (ioctl(vm->cpu, KVM_ENABLE_CAP, &messages))
		cannot("have messages of Hyper-V's");
	give_address(vm, HV_MESSAGE_PAGE, page | 1);
	give_address(vm, HV_TIMER_COUNT, 1);
	give_address(vm, HV_TIMER_CONFIG, HV_TIMER_ON);
}

static uint64_t serve_addresses(struct vm *vm, uint32_t what)
{
	const struct kvm_vapic_addr priority = { .vapic_addr = (uintptr_t)operands[PRIORITY_PAGE] };

	struct kvm_clock_data clock = { 0 };

	switch (what) {
	case GIVE_TIME:
		give_address(vm, HV_TIME_STANDS, 1);
		give_address(vm, HV_TIME_PAGE, (uintptr_t)operands[TIME_PAGE] | 1);
		return 0;
	case UPDATE_TIME:
		give_address(vm, HV_TIME_STANDS, 0);
		if (ioctl(vm->fd, KVM_SET_CLOCK, &clock))
			cannot("set the VM's clock");
		return 0;
	case GIVE_CLOCK:
		give_address(vm, MSR_WALL_CLOCK, (uintptr_t)operands[CLOCK_END] - 4);
		return 0;
	case GIVE_MESSAGES:
		give_page_for_messages(vm, (uintptr_t)operands[MESSAGE_PAGE]);
		return 0;
	default:
		if (ioctl(vm->cpu, KVM_SET_VAPIC_ADDR, &priority))
			cannot("have the task priority written");
		return 0;
	}
}

/* --- resets ------------------------------------------------------------------------------------------------------- */

/* KVM resets when the processor is to run; it does not come to run. */
static void reset_by_first(struct vm *vm)
{
	set_to_reset(vm);
	vm->run->immediate_exit = 1;
	while (ioctl(vm->cpu, KVM_RUN, 0) && errno == EAGAIN)
		;
	if (errno != EINTR)
		cannot("reset the VM");
	vm->run->immediate_exit = 0;
}

/* The program from its beginning, in memory that is as the reset has left it. */
static void start_next(struct vm *vm)
{
	if (madvise(vm->ram, BIG, MADV_DONTNEED))
		cannot("clear the program's memory");
	copy_program(vm);
	*(bool *)at(vm, &next_guest) = true;
	vm->again = true;
	set_mode(vm, MODE64, guest_begins);
}

static uint64_t count_words(const unsigned char *page)
{
	volatile uint64_t words = 0;

	for (volatile unsigned int i = 0; i < PAGE / 8; i++) {
		if (!sigsetjmp(after_fault, 1) && ((const volatile uint64_t *)page)[i] == OLD_WORD)
			words = words + 1;
	}
	return words;
}

static void *run_along(void *of)
{
	const struct vm *const vm = of;
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);	/* it is the first processor's */
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	while (ioctl(vm->second, KVM_RUN, 0) && (errno == EAGAIN || errno == EINTR))
		;
	return NULL;
}

static uint64_t serve_reset(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT);
	static uint64_t words;	/* that the VMM has found */
	unsigned char *away;
	struct kvm_regs regs;
	pthread_t thread;

	switch (what) {
	case RESET_FOR_NEXT:
		reset_by_first(vm);
		start_next(vm);
		return 0;
	case RESET_WITH_PAGE_MOVED:
		away = map(PAGE);
		if (mremap(range, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) != away)
			cannot("move a page away");
		reset_by_first(vm);
		if (mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, range) != range)
			cannot("move a page back");
		words = count_words(range);
		start_next(vm);
		return 0;
	case LOOK_AT_MOVED:
		return words;
	case RESET_WITHOUT_SLOT:
		reset_by_first(vm);
		add_memory(vm, 3, 0, EXTRA_SLOT, 0, vm->extra);
		start_next(vm);
		return 0;
	case LOOK_AT_DEVICE:
		return vm->mmio;
	case LET_SECOND_RUN:
		errno = pthread_create(&thread, NULL, run_along, vm);
		if (errno)
			cannot("start a thread");
		pthread_detach(thread);
		return 0;
	case LOADED:
		reset_by_first(vm);
		vm->over = true;
		if (ioctl(vm->cpu, KVM_GET_REGS, &regs))
			cannot("read the VM's registers");
		vm->after_reset[0] = regs.rip;
		return 0;
	case RESET_BESIDE_SECOND:
		reset_by_first(vm);
		vm->over = true;
		vm->after_reset[0] = *(volatile uint32_t *)(vm->ram + STORED_AT) == (uint32_t)SECRET;
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

/* The second of two loads is the one that the VMM does not complete. A plain guest's VMM asks as it is. */
static uint64_t serve_copy(struct vm *vm, uint32_t what)
{
	static unsigned int loads;
	struct kvm_regs regs;

	(void)what;
	if (++loads < 2)
		return 0;
	if (way != PLAIN)
		reset_by_first(vm);
	vm->over = true;
	if (ioctl(vm->cpu, KVM_GET_REGS, &regs))
		cannot("read the VM's registers");
	vm->after_reset[0] = regs.rdi;
	return 0;
}

/*
 * Runs a processor that has shut down, or got INIT; the VMM has code where it begins then. Return: what this code hands
 * over of the guest's memory; 0 where it does not come to run, or NO_EXIT or OTHER_EXIT and why.
 */
static uint64_t run_in_rom(struct vm *vm, int cpu, const struct kvm_run *run)
{
	/* mov $STORED_AT / 16, %bx; mov %bx, %ds; mov 0, %eax; out %eax, $PORT_ANEW; hlt */
	static const unsigned char firmware[] = { 0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0xe7, PORT_ANEW, 0xf4 };

	vm->extra = map(PAGE);
	memcpy(vm->extra + RESET_VECTOR % PAGE, firmware, sizeof(firmware));
	add_memory(vm, 3, KVM_MEM_READONLY, RESET_VECTOR & ~(PAGE - 1), PAGE, vm->extra);
	if (!run_a_while(cpu))
		return errno == EINTR ? 0 : NO_EXIT + (uint64_t)errno;
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT_ANEW)
		return OTHER_EXIT + run->exit_reason;
	return *(const uint32_t *)((const unsigned char *)run + run->io.data_offset);
}

static void run_first_in_rom(struct vm *vm)
{
	vm->shutdown.goes_on = run_in_rom(vm, vm->cpu, vm->run);
	reset_by_first(vm);
	vm->shutdown.words = count_words(at(vm, (void *)(uintptr_t)RANGE_AT));
	start_next(vm);
}

static void take_shutdown(struct vm *vm)
{
	have_state();
	vm->shutdown.count++;
	vm->shutdown.told = ask_state(vm->cpu);
	run_first_in_rom(vm);
}

static uint64_t serve_shutdown(struct vm *vm, uint32_t what)
{
	switch (what) {
	case RUN_TO_SHUTDOWN:
		return run_a_while(vm->second) && vm->second_run->exit_reason == KVM_EXIT_SHUTDOWN;
	case RUN_AFTER_SHUTDOWN:
		return run_in_rom(vm, vm->second, vm->second_run);
	case RUN_FIRST_AFTER_INIT:
		if (!run_second(vm))
			return 0;
		run_first_in_rom(vm);
		return 0;
	default:
		return run_second(vm);
	}
}

static void report_stored(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM has what a processor stores that runs on at a reset", way == PLAIN, vm->after_reset[0]);
}

static void report_place(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM is told where the guest was", way == PLAIN, vm->after_reset[0] / PAGE == WINDOW / PAGE);
}

static void report_copied(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM is told where the guest was copying to", way == PLAIN,
		   vm->after_reset[0] / PAGE == WINDOW / PAGE);
}

/* --- what one processor does while another one waits for the VMM ---------------------------------------------------- */

#define COMES_NS 300000000	/* for a request, or a reset, to come to where it waits */

/* A page of the VMM's that is missing: whoever asks for it waits. */
struct kept_back {
	int userfault;
	unsigned char *page;
};

static struct {
	struct kept_back first, last;
	pthread_t second;
	volatile bool over;	/* what waits has come to its end */
	volatile bool began, ran, stops;	/* the second processor */
	volatile bool third_ran;
	volatile bool waited;
	uint32_t word;	/* that the VMM has got */
} meanwhile;

static void keep_back(struct kept_back *kept, unsigned char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)page, .len = PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	kept->page = page;
	kept->userfault = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (kept->userfault < 0 || ioctl(kept->userfault, UFFDIO_API, &api) || madvise(page, PAGE, MADV_DONTNEED) ||
	    ioctl(kept->userfault, UFFDIO_REGISTER, &range))
		cannot("keep back a page of the VMM's");
}

static void await_fault(const struct kept_back *kept)
{
	struct uffd_msg asked;

	if (read(kept->userfault, &asked, sizeof(asked)) != sizeof(asked))
		cannot("wait for somebody to ask for a page");
}

static void give_back(const struct kept_back *kept)
{
	static unsigned char content[PAGE] = { 0xf4, 0xeb, 0xfd };	/* hlt; jmp to it */
	struct uffdio_copy copy = { .dst = (uintptr_t)kept->page, .src = (uintptr_t)content, .len = PAGE };

	if (ioctl(kept->userfault, UFFDIO_COPY, &copy))
		cannot("give back a page of the VMM's");
}

/* A thread that no alarm interrupts: these are the first processor's. */
static pthread_t start_beside(void *(*run)(void *), struct vm *vm)
{
	sigset_t alarms_alone, before;
	pthread_t thread;

	sigemptyset(&alarms_alone);
	sigaddset(&alarms_alone, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms_alone, &before);
	errno = pthread_create(&thread, NULL, run, vm);
	if (errno)
		cannot("start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return thread;
}

static void await(const volatile bool *what)
{
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + RUN_US * 1000ull;

	while (!*what && clock_ns(CLOCK_MONOTONIC) < end)
		usleep(LOOK_US);
}

static void wait_ns(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* Until it comes to its port. */
static void *run_second_beside(void *of)
{
	struct vm *const vm = of;
	int result;

	do {
		result = ioctl(vm->second, KVM_RUN, 0);
	} while (result && (errno == EAGAIN || errno == EINTR) && !meanwhile.stops);
	meanwhile.ran = !result && vm->second_run->exit_reason == KVM_EXIT_IO && vm->second_run->io.port == PORT_SECOND;
	return NULL;
}

static void *run_third_beside(void *of)
{
	const struct vm *const vm = of;
	int result;

	do {
		result = ioctl(vm->third, KVM_RUN, 0);
	} while (result && (errno == EAGAIN || errno == EINTR));
	meanwhile.third_ran = !result && vm->third_run->exit_reason == KVM_EXIT_IO && vm->third_run->io.port == PORT_SECOND;
	return NULL;
}

/* A processor that is as KVM has made it: the VMM is told another place when registers are private. */
static bool registers_are_private(int cpu)
{
	struct kvm_regs regs;

	if (ioctl(cpu, KVM_GET_REGS, &regs))
		cannot("read another processor's registers");
	return regs.rip != (RESET_VECTOR & 0xffff);
}

/* Lets the second processor run while the guest's request waits for the third one, which then gets its page. */
static void *run_across(void *of)
{
	struct vm *const vm = of;
	const volatile bool *const begun = (bool *)(vm->ram + (FIRMWARE_VECTOR << 12) + BEGUN_OFFSET);

	while (way != PLAIN && !registers_are_private(vm->second))
		usleep(LOOK_US);
	wait_ns(COMES_NS);
	meanwhile.began = !meanwhile.over;
	meanwhile.second = start_beside(run_second_beside, vm);
	await(begun);
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_across(struct vm *vm, uint32_t what)
{
	/*
	 * movb $1, %cs:BEGUN_OFFSET; mov $STORED_AT / 16, %bx; mov %bx, %ds; until it is SECRET_WORD: mov 0, %eax; then
	 * out %eax, $PORT_SECOND; hlt
	 */
	static const unsigned char firmware[] = { 0x2e, 0xc6, 0x06, BEGUN_OFFSET & 0xff, BEGUN_OFFSET >> 8, 1,
						  0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0x3d, SECRET_WORD & 0xff, SECRET_WORD >> 8 & 0xff,
						  SECRET_WORD >> 16 & 0xff, SECRET_WORD >> 24, 0x75, 0xf4,
						  0x66, 0xe7, PORT_SECOND, 0xf4 };
	const struct vm third = { .cpu = vm->third };

	switch (what) {
	case RUN_ACROSS:
		memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
		send_message(vm, 1, DELIVER_INIT);
		send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
		keep_back(&meanwhile.last, vm->readonly + PAGE);
		set_mode(&third, MODE64, (void *)(uintptr_t)(SLOT_READONLY + PAGE));
		let_run(vm->third);
		start_beside(run_third_beside, vm);
		await_fault(&meanwhile.last);
		start_beside(run_across, vm);
		return 0;
	case LOOK_ACROSS:
		meanwhile.over = true;
		await(&meanwhile.ran);
		return meanwhile.ran ? *(uint32_t *)((unsigned char *)vm->second_run + vm->second_run->io.data_offset) : 0;
	default:
		return meanwhile.began;
	}
}

static void *ask_third(void *of)
{
	const struct vm *const vm = of;

	if (ioctl(vm->third, KVM_GET_REGS, meanwhile.last.page))
		cannot("read the third processor's registers");
	return NULL;
}

/* Lets the second processor go on while the reset waits for the third one, which then gets its page. */
static void *go_on_at_reset(void *of)
{
	(void)of;
	wait_ns(COMES_NS);
	give_back(&meanwhile.first);
	await(&meanwhile.ran);
	meanwhile.waited = !meanwhile.over;
	give_back(&meanwhile.last);
	return NULL;
}

static void hold_second(struct vm *vm)
{
	keep_back(&meanwhile.first, vm->ram + HELD_AT);
	meanwhile.second = start_beside(run_second_beside, vm);
	await_fault(&meanwhile.first);
}

static void stop_second(const struct vm *vm)
{
	meanwhile.stops = true;
	vm->second_run->immediate_exit = 1;
	pthread_kill(meanwhile.second, SIGUSR1);
	pthread_join(meanwhile.second, NULL);
}

static void reset_with_start_pending(struct vm *vm)
{
	pthread_t third, beside;

	have_state();
	keep_back(&meanwhile.last, map(PAGE));
	third = start_beside(ask_third, vm);
	await_fault(&meanwhile.last);
	beside = start_beside(go_on_at_reset, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	pthread_join(third, NULL);
	stop_second(vm);
	vm->over = true;
	vm->after_reset[0] = ask_state(vm->second);
	vm->after_reset[1] = meanwhile.waited;
}

static uint64_t serve_pending(struct vm *vm, uint32_t what)
{
	switch (what) {
	case HOLD_SECOND:
		hold_second(vm);
		return 0;
	default:
		reset_with_start_pending(vm);
		return 0;
	}
}

static void report_pending(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits while the VMM asks another processor for its registers", way != PLAIN,
		   vm->after_reset[1]);
	report_hex(line, "ioctls that tell a secret of the second processor, which the guest has started before",
		   way == PLAIN ? SECOND_TELLS : 0, vm->after_reset[0]);
}

/* Has a twin that waits to be started, and in KVM_RUN. */
static void run_twin_beside(struct vm *vm)
{
	const struct kvm_mp_state waits = { KVM_MP_STATE_INIT_RECEIVED };

	add_twin(vm);
	if (ioctl(vm->third, KVM_SET_MP_STATE, &waits))
		cannot("have a virtual CPU wait to be started");
	start_beside(run_third_beside, vm);
	wait_ns(COMES_NS);
}

static uint64_t serve_twin(struct vm *vm, uint32_t what)
{
	switch (what) {
	case RUN_TWIN_BESIDE:
		run_twin_beside(vm);
		return 0;
	case LOOK_AT_TWIN:
		await(&meanwhile.third_ran);
		return meanwhile.third_ran;
	case TRY_TWIN:
		return run_a_while(vm->third) && vm->third_run->exit_reason == KVM_EXIT_IO &&
		       vm->third_run->io.port == PORT_SECOND;
	default:
		return serve_second(vm, what);
	}
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

static struct {
	unsigned char *bit;	/* KVM's */
} ender;

/* Acts for each interrupt, while the guest waits for that without an exit. */
static void *end_interrupts(void *of)
{
	const struct vm *const vm = of;
	const volatile uint64_t *const taken = at(vm, shared.bytes + TAKEN_AT);
	volatile uint64_t *const acted = at(vm, shared.bytes + ACTED_AT);

	for (;;) {
		const uint64_t next = *taken;

		*(volatile unsigned char *)ender.bit = 0;
		*acted = next;
	}
	return NULL;
}

static void let_end_by_itself(const struct vm *vm)
{
	const struct kvm_enable_cap hyper_v = { .cap = KVM_CAP_HYPERV_SYNIC2 };

	if (ioctl(vm->cpu, KVM_ENABLE_CAP, &hyper_v))
		cannot("have Hyper-V's interrupt controller");
	give_address(vm, HV_SINT0, UPCALL_VECTOR | HV_AUTO_EOI);
}

/* By the line that has the first of its vectors. */
static void interrupt_by_pic(const struct vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	const struct kvm_irq_level line = { .irq = 0, .level = 1 };

	if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
		cannot("read the PIC");
	chip.chip.pic.irq_base = UPCALL_VECTOR;
	chip.chip.pic.imr = 0;
	if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) || ioctl(vm->fd, KVM_IRQ_LINE, &line))
		cannot("interrupt by the PIC");
}

/* Memory that answers for the local APIC; the errno, or 0. */
static uint64_t hide_apic(const struct vm *vm)
{
	unsigned char *const page = map(PAGE);
	struct kvm_userspace_memory_region region = {
		.slot = 5, .guest_phys_addr = APIC, .memory_size = PAGE, .userspace_addr = (uintptr_t)page,
	};

	page[TASK_PRIORITY - APIC] = ANSWERED;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
}

static uint64_t serve_interrupts(struct vm *vm, uint32_t what)
{
	const struct kvm_interrupt one = { UPCALL_VECTOR };

	switch (what) {
	case INTERRUPT:
		send_message(vm, 0, UPCALL_VECTOR);
		return 0;
	case STORE_ALL_ALONG:
		ender.bit = at(vm, shared.bytes + ENDED_AT);
		start_beside(end_interrupts, vm);
		return 0;
	case END_BY_ITSELF:
		let_end_by_itself(vm);
		return 0;
	case INTERRUPT_BY_PIC:
		interrupt_by_pic(vm);
		return 0;
	case SEND_EARLY:
		send_message(vm, 0, EARLY_VECTOR);
		return 0;
	case SEND_LATE:
		send_message(vm, 0, LATE_VECTOR);
		return 0;
	case HIDE_APIC:
		return hide_apic(vm);
	default:
		if (ioctl(vm->cpu, KVM_INTERRUPT, &one))
			cannot("interrupt the virtual CPU");
		return 0;
	}
}

/* What the guest loads where it looks for its local APIC comes to the VMM. */
static uint64_t serve_apic(struct vm *vm, uint32_t what)
{
	const uint32_t answer = ANSWERED;

	if (what == LOADED)
		memcpy(vm->run->mmio.data, &answer, sizeof(answer));
	return 0;
}

/* The second processor's call goes on while the reset waits, or when it is over. */
static void *call_goes_on(void *of)
{
	(void)of;
	wait_ns(COMES_NS);
	meanwhile.waited = !meanwhile.over;
	give_back(&meanwhile.first);
	wait_ns(COMES_NS);
	return NULL;
}

static uint64_t serve_call(struct vm *vm, uint32_t what)
{
	pthread_t beside;

	if (what == HOLD_SECOND) {
		hold_second(vm);
		return 0;
	}
	beside = start_beside(call_goes_on, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	stop_second(vm);
	vm->over = true;
	vm->after_reset[0] = *(volatile uint16_t *)(vm->ram + RETURNS_TO) != 0;
	vm->after_reset[1] = meanwhile.waited;
	return 0;
}

static void report_call(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits while KVM carries out a call of another processor's", way != PLAIN,
		   vm->after_reset[1]);
	report_hex(line, "the VMM has where that call comes from", way == PLAIN, vm->after_reset[0]);
}

/* The dirty log of a slot goes to a page that the VMM keeps back: no memory slot changes, and nobody is protected. */
static void *read_log_beside(void *of)
{
	const struct vm *const vm = of;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = meanwhile.last.page };

	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		cannot("read the dirty log");
	return NULL;
}

/* From now on whoever needs the lock of the memory slots waits. */
static void hold_log(struct vm *vm)
{
	keep_back(&meanwhile.last, map(PAGE));
	start_beside(read_log_beside, vm);
	await_fault(&meanwhile.last);
}

/* Code of the VMM's, in real mode, that hands over a word of the guest's; where the processor has no wish of its own. */
static void *steer_second(void *of)
{
	/* mov $STORED_AT / 16, %bx; mov %bx, %ds; mov 0, %eax; out %eax, $PORT_SECOND; hlt */
	static const unsigned char firmware[] = { 0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0xe7, PORT_SECOND, 0xf4 };
	struct vm *const vm = of;
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;

	wait_ns(COMES_NS);
	meanwhile.waited = !meanwhile.over;
	memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
	if (ioctl(vm->second, KVM_GET_SREGS, &sregs))
		cannot("read the second processor's registers");
	sregs.cs = segment(FIRMWARE_VECTOR << 12, FIRMWARE_VECTOR << 8, 0xb, MODE16);
	if (ioctl(vm->second, KVM_SET_SREGS, &sregs) || ioctl(vm->second, KVM_SET_REGS, &regs))
		cannot("set the second processor's registers");
	let_run(vm->second);
	meanwhile.second = start_beside(run_second_beside, vm);
	await(&meanwhile.ran);
	stop_second(vm);
	if (meanwhile.ran)
		meanwhile.word = *(uint32_t *)((unsigned char *)vm->second_run + vm->second_run->io.data_offset);
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_steered(struct vm *vm, uint32_t what)
{
	pthread_t beside;

	(void)what;
	hold_log(vm);
	beside = start_beside(steer_second, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	vm->over = true;
	vm->after_reset[0] = meanwhile.word;
	vm->after_reset[1] = meanwhile.waited;
	return 0;
}

static void report_steered(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits for the VMM", way != PLAIN, vm->after_reset[1]);
	report_hex(line, "what the VMM's code has of the guest's memory meanwhile", way == PLAIN ? SECRET_WORD : 0,
		   vm->after_reset[0]);
}

static void *log_goes_on(void *of)
{
	const struct vm *const vm = of;

	while (!registers_are_private(vm->third))
		usleep(LOOK_US);
	wait_ns(COMES_NS);
	meanwhile.began = !meanwhile.over;
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_before(struct vm *vm, uint32_t what)
{
	/* movb $1, %cs:BEGUN_OFFSET; mov $HC_ENABLE, %eax; xor %ebx, %ebx; vmmcall; out %al, $PORT_SECOND; hlt */
	static const unsigned char firmware[] = { 0x2e, 0xc6, 0x06, BEGUN_OFFSET & 0xff, BEGUN_OFFSET >> 8, 1,
						  0x66, 0xb8, HC_ENABLE, 0, 0, 0, 0x66, 0x31, 0xdb, 0x0f, 0x01, 0xd9,
						  0xe6, PORT_SECOND, 0xf4 };
	const volatile bool *const begun = (bool *)(vm->ram + (FIRMWARE_VECTOR << 12) + BEGUN_OFFSET);

	if (what == CAME_BEFORE) {
		meanwhile.over = true;
		return meanwhile.began;
	}
	memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
	send_message(vm, 1, DELIVER_INIT);
	send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
	hold_log(vm);
	meanwhile.second = start_beside(run_second_beside, vm);
	await(begun);
	wait_ns(COMES_NS);	/* from there to its request */
	start_beside(log_goes_on, vm);
	return 0;
}

/* --- children ----------------------------------------------------------------------------------------------------- */

static const char *program;	/* its name, which says what this program is where it is linked with others */

/* What a child tells its parent. */
struct child_report {
	uint64_t enabled;
	uint64_t loaded;	/* pages of its guest's code */
	volatile bool ready, ends;
};

/* A VM in a process of its own. It asks for protection, and ends when it is told to. */
static void be_vmm(struct child_report *told, bool limited)
{
	static const struct row asks = { "child", nothing_more, .operands = operands, .pages = 1 };
	static struct vm own;
	unsigned int written = 0, loaded = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(DEADLINE_S);
	row = &asks;
	make_vm(&own);
	if (limited) {
		const struct rlimit limit = { MAY_LOCK, MAY_LOCK };

		memset(own.ram + LOCKED_AT, 1, LOCKED_BYTES);
		if (setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(NOBODY, NOBODY, NOBODY))
			cannot("be another user");
	}
	set_mode(&own, MODE64, guest_begins);
	run_until(&own, PORT_READY);
	told->enabled = own.wrong[0] ? (uint64_t)-1 : ((struct report *)at(&own, &shared.report))->enabled;
	count_reached(at(&own, (void *)((uintptr_t)attempt & ~(uintptr_t)(PAGE - 1))), 1, &loaded, &written);
	told->loaded = loaded;
	told->ready = true;
	while (!told->ends && !alarms)
		usleep(LOOK_US);
}

static pid_t start_vmm(struct child_report **told, bool limited)
{
	pid_t child;

	alarm(DEADLINE_S);	/* each has as long as a row */
	*told = mmap(NULL, sizeof(**told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child = *told == MAP_FAILED ? -1 : fork();
	if (child < 0)
		cannot("have a child");
	if (!child) {
		be_vmm(*told, limited);
		_exit(0);
	}
	while (!(*told)->ready) {
		if (waitpid(child, NULL, WNOHANG)) {
			errno = ECHILD;
			cannot("have a child with a VM");
		}
		usleep(LOOK_US);
	}
	return child;
}

static void end_vmm(pid_t child, struct child_report *told)
{
	told->ends = true;
	if (waitpid(child, NULL, 0) != child)
		cannot("wait for a child");
}

static uint64_t ask_child(bool limited, uint64_t *loaded)
{
	struct child_report *told;
	const pid_t child = start_vmm(&told, limited);

	end_vmm(child, told);
	*loaded = told->loaded;
	return told->enabled;
}

/* Has each other row run, as this one. Return: how many have not ended by themselves. */
static uint64_t run_all_rows(void)
{
	static char *ways[] = { "plain", "private", "shared" };
	posix_spawn_file_actions_t silent;
	uint64_t failed = 0;

	alarm(0);	/* each has a deadline of its own */
	posix_spawn_file_actions_init(&silent);
	posix_spawn_file_actions_addopen(&silent, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *arguments[] = { (char *)program, (char *)rows[i].name, ways[way], NULL };
		int status = 0;
		pid_t child;

		if (&rows[i] == row)
			continue;
		errno = posix_spawn(&child, "/proc/self/exe", &silent, NULL, arguments, environ);
		if (errno || waitpid(child, &status, 0) != child)
			cannot("run another row");
		failed += status != 0;
	}
	posix_spawn_file_actions_destroy(&silent);
	alarm(DEADLINE_S);
	return failed;
}

/* Pages of the host that are out of its direct map, as KVM tells by each VM; one that cannot protect tells nothing. */
static uint64_t count_out(const struct vm *vm)
{
	char line[128];
	unsigned long pages = 0;
	FILE *file;

	snprintf(line, sizeof(line), "/sys/kernel/debug/kvm/%d-%d/protected_memory", getpid(), vm->fd);
	file = fopen(line, "re");
	if (!file && (way != PLAIN || errno != ENOENT))
		cannot("read what KVM tells of a VM");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "host_pages_out_of_direct_map: %lu", &pages) != 1)
		;
	if (file)
		fclose(file);
	return pages;
}

/* The same when it stays so: what is freed returns a little later. */
static uint64_t count_out_in_the_end(const struct vm *vm)
{
	const struct timespec while_it_works = { .tv_nsec = SETTLE_NS };
	uint64_t pages = count_out(vm), before;

	do {
		before = pages;
		nanosleep(&while_it_works, NULL);
		pages = count_out(vm);
	} while (pages != before);
	return pages;
}

static uint64_t serve_children(struct vm *vm, uint32_t what)
{
	static uint64_t loaded, out;
	struct child_report *told;
	uint64_t answer;
	pid_t child;

	switch (what) {
	case ASK_CHILD:
		return ask_child(false, &loaded);
	case LOOK_AT_CHILD:
		return loaded;
	case ASK_LIMITED:
		return ask_child(true, &loaded);
	case ASK_LIMITED_BESIDE:
		child = start_vmm(&told, true);
		answer = ask_child(true, &loaded);
		end_vmm(child, told);
		return answer;
	case RUN_ALL_ROWS:
		return run_all_rows();
	case COUNT_OUT:
		out = count_out_in_the_end(vm);
		return out;
	default:
		return count_out_in_the_end(vm) - out;
	}
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "plain", "private", "shared" };
	struct sigaction on_alarm = { .sa_handler = take_alarm }, on_fault = { .sa_handler = take_fault_of_ours };
	struct sigaction on_kick = { .sa_handler = take_kick };
	static struct vm vm;
	struct text line = { 0 };
	bool known = false;

	program = argv[0];
	for (unsigned int i = 0; argc == 3 && i < sizeof(rows) / sizeof(*rows); i++) {
		if (!strcmp(argv[1], rows[i].name))
			row = &rows[i];
	}
	for (unsigned int i = 0; argc == 3 && i < sizeof(ways) / sizeof(*ways); i++) {
		if (!strcmp(argv[2], ways[i])) {
			way = (enum way)i;
			known = true;
		}
	}
	if (!row || !known) {
		fprintf(stderr, "usage: tiny_vm ROW plain|private|shared\nrows:");
		for (unsigned int i = 0; i < sizeof(rows) / sizeof(*rows); i++)
			fprintf(stderr, " %s", rows[i].name);
		fprintf(stderr, "\n");
		return 2;
	}
	sigaction(SIGALRM, &on_alarm, NULL);
	sigaction(SIGUSR1, &on_kick, NULL);
	sigaction(SIGBUS, &on_fault, NULL);
	sigaction(SIGSEGV, &on_fault, NULL);
	make_vm(&vm);
	alarm(DEADLINE_S);
	set_mode(&vm, MODE64, guest_begins);
	run_until(&vm, PORT_READY);
	report_hex(&line, "requests for protection", row->given.number && way != PLAIN ? NO_RIGHT : 0,
		   ((struct report *)at(&vm, &shared.report))->enabled);
	look(&line, &vm, "before");
	run_until(&vm, PORT_DONE);
	if (row->begin && !vm.wrong[0] && !vm.over) {
		set_mode(&vm, row->mode, row->begin);
		run_until(&vm, PORT_DONE);
	}
	look(&line, &vm, "afterwards");
	report_all(&line, &vm);
	return 0;
}
