// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory cgroups (Documentation/admin-guide/cgroup-v2.rst): a VMM's is charged for its guest's memory, and limits it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "groups.h"
#include "processes.h"
#include "ranges.h"
#include "refusals.h"

#define USED_BYTES (12u << 20)	/* of a guest that is to be protected, beside its program */
#define SPARE_FEW (2u << 20)	/* not enough for that */
#define FILL_AT 0x3000000u	/* memory that nothing else uses */
#define FILL_BYTES (15u << 20)
#define SPARE_SOME (8u << 20)	/* enough to protect the program, and not for that */

/* What the host side is asked. */
enum { UNCHARGED = 0xa000, UNCHARGED_SHARED, KEPT_GROUPS, ENABLE_WITHOUT_MEMORY, RUN_BEYOND };

/* What a guest has is charged to its VMM's group, and to none when the VM has ended: a page that is keeps the group. */
static GUEST void group_is_charged(void)
{
	tell("KiB of the guest's memory that its VMM's group is not charged for", 0, service(UNCHARGED));
	tell("KiB that it is not charged for when the guest has shared them", 0, service(UNCHARGED_SHARED));
	tell("groups that somebody keeps when their VM has ended", 0, service(KEPT_GROUPS));
}

static GUEST void group_limits(void)
{
	tell("ENABLE where the group may not have the memory", way == PLAIN ? 0 : NO_MEMORY, service(ENABLE_WITHOUT_MEMORY));
	tell("the signal that ends a VMM whose guest stores to more than the group may have", SIGKILL, service(RUN_BEYOND));
	tell("groups that somebody keeps when their VM has ended", 0, service(KEPT_GROUPS));
}

/* In the child's VM. */
static GUEST void fill_memory(void)
{
	for (uint64_t page = FILL_AT; page < FILL_AT + FILL_BYTES; page += PAGE)
		*(volatile unsigned char *)page = 1;
}

static GUEST void fill_and_share_memory(void)
{
	fill_memory();
	if (way != PLAIN)
		change(HC_SHARE, FILL_AT, FILL_BYTES / PAGE);
}

#define GROUPS "/sys/fs/cgroup"
#define GROUP "tiny_vm-%d"
#define LOOKS 40	/* half a second each */
#define BY_SIGNAL 0x100u

static const struct row asks = { "asking child", nothing_more, .operands = operands, .pages = 1 };
static const struct row fills = { "filling child", fill_memory, .operands = operands, .pages = 1 };
static const struct row shares = { "sharing child", fill_and_share_memory, .operands = operands, .pages = 1 };
static const struct timespec settle = { .tv_nsec = 500000000 };
static char group[NAME_MAX];
static unsigned long kept_before;

static int open_file(const char *of, const char *name, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), GROUPS "/%s/%s", of, name);
	return open(path, flags | O_CLOEXEC);
}

static void write_file(const char *of, const char *name, const char *text)
{
	const int file = open_file(of, name, O_WRONLY);

	if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
		cannot("write to a file of a memory cgroup");
	close(file);
}

/* The number in a file, behind a word if there is one. */
static unsigned long read_number(const char *of, const char *name, const char *word)
{
	const int file = open_file(of, name, O_RDONLY);
	char text[4096];
	const ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
	const char *where = text;

	text[length < 0 ? 0 : length] = 0;
	if (length > 0 && word)
		where = strstr(text, word);
	if (length <= 0 || !where)
		cannot("read a file of a memory cgroup");
	close(file);
	return strtoul(where + (word ? strlen(word) : 0), NULL, 10);
}

static unsigned long kept_groups(void)
{
	return read_number(".", "cgroup.stat", "nr_dying_descendants ");
}

void enter_group(const char *of)
{
	write_file(of, "cgroup.procs", "0");
}

void limit_group(const char *of, uint64_t spare)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)(read_number(of, "memory.current", NULL) + spare));
	write_file(of, "memory.max", text);
	prctl(PR_SET_NAME, "past-limit");	/* the kernel reports whom it kills; host_setup/hosts/kernel_log.py */
}

/* In a mount namespace of our own: the host may have none of these file systems, or have it elsewhere. */
static void see_groups(void)
{
	static bool seen;

	if (seen)
		return;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    (mount("none", GROUPS, "cgroup2", 0, NULL) && errno != EBUSY))	/* that is: it is there */
		cannot("mount the file system of cgroups");
	write_file(".", "cgroup.subtree_control", "+memory");
	kept_before = kept_groups();
	seen = true;
}

static void make_group(void)
{
	char path[PATH_MAX];

	see_groups();
	snprintf(group, sizeof(group), GROUP, getpid());
	snprintf(path, sizeof(path), GROUPS "/%s", group);
	if (mkdir(path, 0755))
		cannot("make a memory cgroup");
}

/*
 * Each CPU holds the last few pages that it has put on an LRU list, also when nobody has them any more. Who wants more of
 * a group than it has makes the CPUs give them back (Linux: mm/vmscan.c user_proactive_reclaim()).
 */
static void have_lists_drained(void)
{
	static const char much[] = "1G";
	const int file = open_file(group, "memory.reclaim", O_WRONLY);

	if (file < 0 || (write(file, much, strlen(much)) < 0 && errno != EAGAIN))
		cannot("have a memory cgroup give back what it has");
	close(file);
}

/* Its processes may take a moment to go. */
static void remove_group(void)
{
	char path[PATH_MAX];

	have_lists_drained();
	snprintf(path, sizeof(path), GROUPS "/%s", group);
	for (unsigned int looks = 0; rmdir(path); looks++) {
		if (errno != EBUSY || looks == LOOKS)
			cannot("remove a memory cgroup");
		nanosleep(&settle, NULL);
	}
}

/* How many more than before are removed, and still there: what is charged to them has not gone. */
static uint64_t count_kept(void)
{
	unsigned long kept = kept_groups();

	for (unsigned int looks = 0; kept > kept_before && looks < LOOKS; looks++) {
		nanosleep(&settle, NULL);
		kept = kept_groups();
	}
	return kept > kept_before ? kept - kept_before : 0;
}

/* Return: what the request said; BY_SIGNAL and its number, if a signal has ended the VMM. */
static uint64_t ask_without_memory(void)
{
	const struct child child = { .row = &asks, .used = USED_BYTES, .group = group, .spare = SPARE_FEW };
	uint64_t answer;
	int status;

	make_group();
	status = run_vmm(&child, &answer);
	remove_group();
	return WIFSIGNALED(status) ? BY_SIGNAL + (uint64_t)WTERMSIG(status) : answer;
}

/* Return: the signal that has ended it; 0: none. */
static uint64_t run_beyond(void)
{
	const struct child child = { .row = &fills, .group = group, .spare = SPARE_SOME };
	uint64_t answer;
	int status;

	make_group();
	status = run_vmm(&child, &answer);
	remove_group();
	return WIFSIGNALED(status) ? (uint64_t)WTERMSIG(status) : 0;
}

/* Return: KiB that the group of a VMM is charged less than its guest has stored to. */
static uint64_t count_uncharged(const struct row *of)
{
	const struct child child = { .row = of, .group = group };
	struct child_report *child_report;
	uint64_t charged;
	pid_t process;

	make_group();
	process = start_vmm(&child_report, &child);
	charged = read_number(group, "memory.current", NULL);
	end_vmm(process, child_report);
	remove_group();
	return charged < FILL_BYTES ? (FILL_BYTES - charged) / 1024 : 0;
}

static uint64_t serve_groups(struct vm *vm, uint32_t what)
{
	(void)vm;
	switch (what) {
	case UNCHARGED:
		return count_uncharged(&fills);
	case UNCHARGED_SHARED:
		return count_uncharged(&shares);
	case ENABLE_WITHOUT_MEMORY:
		return ask_without_memory();
	case RUN_BEYOND:
		return run_beyond();
	default:
		return count_kept();
	}
}

const struct row groups_rows[] = {
	{ "group", group_is_charged, .operands = NULL, .serve = serve_groups },
	{ "group-limit", group_limits, .operands = NULL, .serve = serve_groups },
	{ .name = NULL },
};
