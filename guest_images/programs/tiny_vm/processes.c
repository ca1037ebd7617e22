// SPDX-License-Identifier: GPL-2.0-or-later
/* Other processes that have VMs: children of the VMM, VMMs of another user in turn, and all other rows. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kernel-page-flags.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "processes.h"
#include "rows.h"
#include "exits.h"
#include "groups.h"
#include "looks.h"
#include "ranges.h"
#include "refusals.h"

#define NOBODY 54321u		/* a user of no other process */
#define LOCKED_AT RANGE
#define LOCKED_BYTES (12u << 20)	/* by a VM, beside its program's */
#define MAY_LOCK (20u << 20)		/* enough for one VM, and not for two */
/* The first round fills what the kernel keeps ready. Of the others the least counts: other processes take memory, too. */
#define ROUNDS 4u
#define REQUESTS 12u		/* to take pages back, of which the kernel notes each in 32 bytes at least */
#define EACH_TIME 256u		/* pages that each of them is about, and as many between them that are private */
#define SHARING_VMS 3u
#define APART 64u		/* pages: what KVM notes of so many shared ones lies together */
#define FEW_KIB 48u		/* that come and go in the kernel */

/* What the host side is asked. */
enum { ASK_CHILD = 0x9000, LOOK_AT_CHILD, ASK_LIMITED, ASK_LIMITED_BESIDE, RUN_ALL_ROWS, COUNT_OUT, COUNT_LEFT,
       COUNT_HELD, COUNT_HELD_LEFT, COUNT_UNCOUNTED, COUNT_KERNELS, COUNT_KERNELS_LEFT,
       RUN_SHARING_VM, HAVE_TIME };

/* A VM of a process has its memory protected, whatever its parent has. */
static GUEST void child_is_protected(void)
{
	tell("what the guest of a child is told", 0, service(ASK_CHILD));
	tell("pages of that guest's code that the child reaches", way == PLAIN, service(LOOK_AT_CHILD));
}

/* Before the guest itself is protected: VMMs of a user who may lock the memory of one. */
static GUEST void ask_in_turn(void)
{
	tell("ENABLE of a first VM of a user", 0, service(ASK_LIMITED));
	tell("ENABLE of a VM beside another one of the user", way == PLAIN ? 0 : NO_MEMORY, service(ASK_LIMITED_BESIDE));
	tell("ENABLE of a VM when those before have ended", 0, service(ASK_LIMITED));
}

static GUEST void locked_memory_comes_back(void)
{
	if (way == PLAIN)
		ask_in_turn();
}

/* All that the rows do with pages, private or not, each in a VM of its own that ends. */
static GUEST void memory_comes_back(void)
{
	service(COUNT_HELD);
	tell("pages are out of the host's direct map", way != PLAIN, service(COUNT_OUT) != 0);
	if (way != PLAIN)	/* the control: there is nothing to come back */
		tell("other rows that do not end by themselves", 0, service(RUN_ALL_ROWS));
	tell("more pages are out of it when their VMs have ended", 0, service(COUNT_LEFT));
	tell("more pages of processes are in none when they have ended", 0, service(COUNT_HELD_LEFT));
	tell("pages by which those differ that are marked as private, and those that are counted", 0, service(COUNT_UNCOUNTED));
}

static GUEST void share_and_take_back(void)
{
	for (uint64_t page = 0; page < EACH_TIME; page++)
		change(HC_SHARE, RANGE_AT + 2 * page * PAGE, 1);
	change(HC_UNSHARE, RANGE_AT, 2 * EACH_TIME);
}

/* Of what the kernel has for itself, how much more each round of that leaves behind, KiB. */
static GUEST uint64_t left_of_requests(void)
{
	uint64_t least = ~0ull;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		service(COUNT_KERNELS);
		for (unsigned int i = 0; i < REQUESTS; i++) {
			share_and_take_back();
			service(HAVE_TIME);
		}
		const uint64_t left = service(COUNT_KERNELS_LEFT);

		least = round && left < least ? left : least;
	}
	return least;
}

/* The same of VMs of other processes. Adds how many are there still. */
static GUEST uint64_t left_of_vms(uint64_t *there)
{
	uint64_t least = ~0ull;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		service(COUNT_KERNELS);
		for (unsigned int i = 0; i < SHARING_VMS; i++)
			*there += service(RUN_SHARING_VM);
		const uint64_t left = service(COUNT_KERNELS_LEFT);

		least = round && left < least ? left : least;
	}
	return least;
}

/* What the kernel notes for a guest's requests, and for a VM, is gone with them. */
static GUEST void kernels_memory_comes_back(void)
{
	uint64_t there = 0, left;

	share_and_take_back();	/* what the kernel keeps for the next time it has then */
	service(RUN_SHARING_VM);
	left = left_of_requests();
	tell("KiB that requests leave behind in the kernel each time, above a few", 0, left > FEW_KIB ? left : 0);
	left = left_of_vms(&there);
	tell("KiB that VMs which share much leave behind in the kernel each time, above a few", 0, left > FEW_KIB ? left : 0);
	tell("VMs of which somebody has read how much is private, that are there when their process has ended", 0, there);
}

/* Pages far from one another, in the child's VM. */
static GUEST void share_here_and_there(void)
{
	for (uint64_t page = BIG; page < RAM_BYTES; page += APART * PAGE)
		change(HC_SHARE, page, 1);
}

#define SETTLE_NS 500000000	/* KVM gives back what was freed a tenth of a second later */
#define LOOKS 20		/* so long at the most, half a second each */
#define SHORT_LOOKS 4		/* the same, of what many rounds look for */
#define KVM_TELLS "/sys/kernel/debug/kvm"

static const struct row asks = { "child", nothing_more, .operands = operands, .pages = 1 };
static const struct row shares = { "sharing child", share_here_and_there, .operands = operands, .pages = 1 };

/* A VM in a process of its own. It ends when it is told to. */
static void be_vmm(struct child_report *child_report, const struct child *of)
{
	static struct vm own;
	unsigned int written = 0, loaded = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(DEADLINE_S);
	row = of->row;
	if (of->group)
		enter_group(of->group);
	make_vm(&own);
	if (of->used)
		memset(own.ram + LOCKED_AT, 1, of->used);
	if (of->spare)
		limit_group(of->group, of->spare);
	if (of->limited) {
		const struct rlimit limit = { MAY_LOCK, MAY_LOCK };

		if (setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(NOBODY, NOBODY, NOBODY))
			cannot("be another user");
	}
	set_mode(&own, MODE64, guest_begins);
	run_until(&own, PORT_READY);
	run_until(&own, PORT_DONE);
	child_report->enabled = own.wrong[0] ? (uint64_t)-1 : ((struct report *)at(&own, &shared.report))->enabled;
	count_reached(at(&own, (void *)((uintptr_t)attempt & ~(uintptr_t)(PAGE - 1))), 1, &loaded, &written);
	child_report->loaded = loaded;
	child_report->ready = true;
	while (!child_report->ends && !alarms)
		usleep(LOOK_US);
}

/* Return: 0: it has ended before its guest was done; how, the report has. */
static pid_t try_vmm(struct child_report **child_report, const struct child *of)
{
	pid_t child;

	alarm(DEADLINE_S);	/* each has as long as a row */
	*child_report = mmap(NULL, sizeof(**child_report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (*child_report != MAP_FAILED)	/* the parent's group is charged for it, as it stays there */
		(*child_report)->ready = false;
	child = *child_report == MAP_FAILED ? -1 : fork();
	if (child < 0)
		cannot("have a child");
	if (!child) {
		be_vmm(*child_report, of);
		_exit(0);
	}
	while (!(*child_report)->ready) {
		if (waitpid(child, &(*child_report)->status, WNOHANG))
			return 0;
		usleep(LOOK_US);
	}
	return child;
}

pid_t start_vmm(struct child_report **child_report, const struct child *of)
{
	const pid_t child = try_vmm(child_report, of);

	if (!child) {
		errno = ECHILD;
		cannot("have a child with a VM");
	}
	return child;
}

int run_vmm(const struct child *of, uint64_t *enabled)
{
	struct child_report *child_report;
	const pid_t child = try_vmm(&child_report, of);

	if (child)
		end_vmm(child, child_report);
	*enabled = child_report->enabled;
	return child_report->status;
}

void end_vmm(pid_t child, struct child_report *child_report)
{
	child_report->ends = true;
	if (waitpid(child, NULL, 0) != child)
		cannot("wait for a child");
}

static const struct child any = { .row = &asks };
static const struct child limited = { .row = &asks, .limited = true, .used = LOCKED_BYTES };
static const struct child sharing = { .row = &shares };

static uint64_t ask_child(const struct child *of, uint64_t *loaded)
{
	struct child_report *child_report;
	const pid_t child = start_vmm(&child_report, of);

	end_vmm(child, child_report);
	*loaded = child_report->loaded;
	return child_report->enabled;
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
	for (const struct row *other = next_row(NULL); other; other = next_row(other)) {
		char *arguments[] = { (char *)program, (char *)other->name, ways[way], NULL };
		int status = 0;
		pid_t child;

		if (other == row)
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

	snprintf(line, sizeof(line), KVM_TELLS "/%d-%d/protected_memory", getpid(), vm->fd);
	file = fopen(line, "re");
	if (!file && (way != PLAIN || errno != ENOENT))
		cannot("read what KVM tells of a VM");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "host_pages_out_of_direct_map: %lu", &pages) != 1)
		;
	if (file)
		fclose(file);
	return pages;
}

static const struct timespec settle = { .tv_nsec = SETTLE_NS };

/* The same when it stays so: what is freed returns a little later. */
static uint64_t count_out_in_the_end(const struct vm *vm)
{
	uint64_t pages = count_out(vm), before;

	do {
		if (alarms) {
			errno = ETIME;
			cannot("see how many pages are out of the direct map: end other VMs of this host");
		}
		before = pages;
		nanosleep(&settle, NULL);
		pages = count_out(vm);
	} while (pages != before);
	return pages;
}

/* How many more than before are out. On a busy computer the kernel takes a while to clear what was freed. */
static uint64_t count_left(const struct vm *vm, uint64_t before)
{
	uint64_t pages = count_out_in_the_end(vm);

	for (unsigned int looks = 0; pages > before && looks < LOOKS; looks++) {
		nanosleep(&settle, NULL);
		pages = count_out(vm);
	}
	return pages > before ? pages - before : 0;
}

/* A word of a file that has one for each of the host's pages; 0 behind the last. */
static uint64_t next_word(FILE *file)
{
	uint64_t word;

	return fread(&word, sizeof(word), 1, file) ? word : 0;
}

/*
 * Pages of the host that were a process's, and are in no process now, nor on their way to the swap area: somebody has
 * forgotten a reference. One that is broken stays so.
 */
static uint64_t count_held(void)
{
	FILE *const flags = fopen("/proc/kpageflags", "re"), *const counts = fopen("/proc/kpagecount", "re");
	uint64_t held = 0;

	if (!flags || !counts)
		cannot("read /proc/kpageflags and /proc/kpagecount");
	while (!feof(flags)) {
		const uint64_t is = next_word(flags), processes = next_word(counts);

		held += is >> KPF_ANON & is >> KPF_LRU & 1 && !(is >> KPF_SWAPCACHE & 1) && !(is >> KPF_HWPOISON & 1) &&
			!processes;
	}
	fclose(flags);
	fclose(counts);
	return held;
}

#define KPF_ARCH_3 42	/* Linux 6.12: include/linux/kernel-page-flags.h; the series marks what is out of the direct map by it */

static uint64_t count_marked(void)
{
	FILE *const flags = fopen("/proc/kpageflags", "re");
	uint64_t marked = 0;

	if (!flags)
		cannot("read /proc/kpageflags");
	while (!feof(flags))
		marked += next_word(flags) >> KPF_ARCH_3 & 1;
	fclose(flags);
	return marked;
}

/* By how many pages that differs from what KVM counts, when it stays so. A page must not come back without its mark going. */
static uint64_t count_uncounted(const struct vm *vm)
{
	uint64_t marked, out;

	for (unsigned int looks = 0;; looks++) {
		marked = count_marked();
		out = count_out(vm);
		if (marked == out || looks == LOOKS)
			return marked > out ? marked - out : out - marked;
		nanosleep(&settle, NULL);
	}
}

/* How many more than before are. What is freed just now may be counted. */
static uint64_t count_held_left(uint64_t before)
{
	uint64_t pages = count_held();

	for (unsigned int looks = 0; pages > before && looks < LOOKS; looks++) {
		nanosleep(&settle, NULL);
		pages = count_held();
	}
	return pages > before ? pages - before : 0;
}

/* How many VMs of a process KVM knows; of each it is read how much is private, which a stock kernel does not tell. */
static uint64_t count_vms(pid_t process)
{
	DIR *const all = opendir(KVM_TELLS);
	const struct dirent *entry;
	uint64_t count = 0;
	char name[PATH_MAX], line[128];

	if (!all)
		cannot("read which VMs KVM knows");
	while ((entry = readdir(all))) {
		if (atol(entry->d_name) != process)
			continue;
		count++;
		snprintf(name, sizeof(name), KVM_TELLS "/%s/protected_memory", entry->d_name);
		FILE *const file = fopen(name, "re");

		while (file && fgets(line, sizeof(line), file))
			;
		if (file)
			fclose(file);
	}
	closedir(all);
	return count;
}

/* Return: how many of its VMs are there when it has ended. */
static uint64_t run_sharing_vm(void)
{
	struct child_report *child_report;
	const pid_t child = start_vmm(&child_report, &sharing);

	if (!count_vms(child)) {
		errno = ENOENT;
		cannot("find a child's VM among those that KVM knows");
	}
	end_vmm(child, child_report);
	return count_vms(child);
}

/* How much more than before the kernel has for itself, KiB. What is freed just now may be counted. */
static uint64_t count_kernels_left(uint64_t before)
{
	uint64_t kib = memory_kib("Slab");

	for (unsigned int looks = 0; kib > before + FEW_KIB && looks < SHORT_LOOKS; looks++) {
		nanosleep(&settle, NULL);
		kib = memory_kib("Slab");
	}
	return kib > before ? kib - before : 0;
}

static uint64_t serve_children(struct vm *vm, uint32_t what)
{
	static uint64_t loaded, out, held, kernels;
	struct child_report *child_report;
	uint64_t answer;
	pid_t child;

	switch (what) {
	case ASK_CHILD:
		return ask_child(&any, &loaded);
	case LOOK_AT_CHILD:
		return loaded;
	case ASK_LIMITED:
		return ask_child(&limited, &loaded);
	case ASK_LIMITED_BESIDE:
		child = start_vmm(&child_report, &limited);
		answer = ask_child(&limited, &loaded);
		end_vmm(child, child_report);
		return answer;
	case RUN_ALL_ROWS:
		return run_all_rows();
	case COUNT_OUT:
		out = count_out_in_the_end(vm);
		return out;
	case COUNT_HELD:
		held = count_held();
		return held;
	case COUNT_HELD_LEFT:
		return count_held_left(held);
	case COUNT_UNCOUNTED:
		return count_uncounted(vm);
	case HAVE_TIME:
		alarm(DEADLINE_S);	/* each request to take pages back has as long as a row */
		return 0;
	case COUNT_KERNELS:
		alarm(DEADLINE_S);
		kernels = memory_kib("Slab");
		return kernels;
	case COUNT_KERNELS_LEFT:
		return count_kernels_left(kernels);
	case RUN_SHARING_VM:
		return run_sharing_vm();
	default:
		return count_left(vm, out);
	}
}

const struct row processes_rows[] = {
	{ "child", child_is_protected, .operands = NULL, .serve = serve_children },
	{ "locked", locked_memory_comes_back, .operands = NULL, .serve = serve_children, .first = ask_in_turn },
	{ "kernels-memory", kernels_memory_comes_back, .operands = NULL, .serve = serve_children },
	{ "comes-back", memory_comes_back, .operands = NULL, .serve = serve_children },
	{ .name = NULL },
};
