// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * page_info - tells what the host's kernel knows of pages of a process: QEMU's, as a rule.
 *
 * usage: page_info PID      requests on stdin, one JSON reply a line on stdout; README.md lists them.
 *
 * It opens the process's files anew for each request, as mappings change, and reads no byte of the process's memory.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>

#include "line_server.h"

#define PAGE 4096
#define KVM_DEBUGFS "/sys/kernel/debug/kvm"

static uint64_t pid;
static volatile sig_atomic_t stop;

static FILE *open_file(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%lu/%s", (unsigned long)pid, name);
	return fopen(path, "re");
}

/* pagemap ADDRESS ..: the raw entries of /proc/PID/pagemap. */
static void do_pagemap(int argc, char **args, struct text *reply)
{
	FILE *pagemap = open_file("pagemap");
	struct text list = { 0 };

	text_add(&list, "{\"entries\":[");
	for (int i = 0; i < argc && pagemap; i++) {
		uint64_t address, entry;

		if (!parse_number(args[i], &address)) {
			reply_error(reply, "usage: pagemap ADDRESS ..");
			goto out;
		}
		off_t at = (off_t)(address / PAGE * sizeof(entry));

		if (pread(fileno(pagemap), &entry, sizeof(entry), at) != (ssize_t)sizeof(entry)) {
			reply_errno(reply, "pagemap", errno);
			goto out;
		}
		text_add(&list, "%s%lu", i ? "," : "", (unsigned long)entry);
	}
	if (pagemap)
		text_add(reply, "%s]}", list.data);
	else
		reply_errno(reply, "pagemap", errno);
out:
	if (pagemap)
		fclose(pagemap);
	free(list.data);
}

static bool holds(const char *line, uint64_t address)
{
	unsigned long first, last;

	return sscanf(line, "%lx-%lx ", &first, &last) == 2 && first <= address && address < last;
}

/*
 * mappings ADDRESS ..: for each the line of /proc/PID/smaps that holds it and that mapping's VmFlags, or empty strings.
 */
static void do_mappings(int argc, char **args, struct text *reply)
{
	char line[512], range[MAX_WORDS][512] = { 0 }, flags[MAX_WORDS][256] = { 0 };
	FILE *smaps = open_file("smaps");
	uint64_t addresses[MAX_WORDS];
	bool here[MAX_WORDS] = { 0 };
	int missing = argc;

	if (!smaps) {
		reply_errno(reply, "smaps", errno);
		return;
	}
	for (int i = 0; i < argc; i++) {
		if (!parse_number(args[i], &addresses[i])) {
			reply_error(reply, "usage: mappings ADDRESS ..");
			fclose(smaps);
			return;
		}
	}
	while (missing && fgets(line, sizeof(line), smaps)) {
		line[strcspn(line, "\n")] = 0;
		for (int i = 0; i < argc; i++) {
			if (holds(line, addresses[i])) {
				snprintf(range[i], sizeof(range[i]), "%s", line);
				here[i] = true;
			} else if (here[i] && !strncmp(line, "VmFlags:", 8)) {
				snprintf(flags[i], sizeof(flags[i]), "%.255s", line);
				here[i] = false;
				missing--;
			}
		}
	}
	fclose(smaps);
	text_add(reply, "{\"mappings\":[");
	for (int i = 0; i < argc; i++) {
		text_add(reply, "%s[", i ? "," : "");
		text_add_string(reply, range[i]);
		text_add(reply, ",");
		text_add_string(reply, flags[i]);
		text_add(reply, "]");
	}
	text_add(reply, "]}");
}

/* protection: what KVM's debugfs tells of the process's VM; empty where it tells nothing. */
static void do_protection(int argc, char **args, struct text *reply)
{
	DIR *kvm = opendir(KVM_DEBUGFS);
	struct dirent *entry;
	char path[512], said[1024] = "", mine[32];

	(void)argc, (void)args;
	snprintf(mine, sizeof(mine), "%lu-", (unsigned long)pid);
	while (kvm && (entry = readdir(kvm))) {
		if (strncmp(entry->d_name, mine, strlen(mine)))
			continue;
		snprintf(path, sizeof(path), KVM_DEBUGFS "/%s/protected_memory", entry->d_name);
		FILE *file = fopen(path, "re");

		if (file) {
			said[fread(said, 1, sizeof(said) - 1, file)] = 0;
			fclose(file);
		}
	}
	if (kvm)
		closedir(kvm);
	text_add(reply, "{\"protection\":");
	text_add_string(reply, said);
	text_add(reply, "}");
}

static const struct command commands[] = {
	{ "pagemap", 1, MAX_WORDS - 1, "usage: pagemap ADDRESS ..", do_pagemap },
	{ "mappings", 1, MAX_WORDS - 1, "usage: mappings ADDRESS ..", do_mappings },
	{ "protection", 0, 0, "usage: protection", do_protection },
	{ 0 },
};

int main(int argc, char **argv)
{
	if (argc != 2 || !parse_number(argv[1], &pid) || !pid) {
		fprintf(stderr, "usage: page_info PID\n");
		return 2;
	}
	serve_lines(commands, &stop, NULL);
	return 0;
}
