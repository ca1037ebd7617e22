// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * page_info - tells what the host's kernel knows of a process, QEMU as a rule: of its pages, and of its VM.
 *
 * usage: page_info PID      requests on stdin, one JSON reply a line on stdout; README.md lists them.
 *
 * It opens the process's files anew for each request, as mappings change, and reads no byte of the process's memory.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/line_server.h"

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

/*
 * What KVM's debugfs has in a file of that name of the process's VM: into `content`, which stays as it is where there is
 * none.
 */
static void read_debugfs(const char *name, char *content, size_t room)
{
	DIR *kvm = opendir(KVM_DEBUGFS);
	struct dirent *entry;
	char path[512], mine[32];

	snprintf(mine, sizeof(mine), "%lu-", (unsigned long)pid);
	while (kvm && (entry = readdir(kvm))) {
		if (strncmp(entry->d_name, mine, strlen(mine)))
			continue;
		snprintf(path, sizeof(path), KVM_DEBUGFS "/%s/%s", entry->d_name, name);
		FILE *file = fopen(path, "re");

		if (file) {
			content[fread(content, 1, room - 1, file)] = 0;
			fclose(file);
		}
	}
	if (kvm)
		closedir(kvm);
}

/* protection: what KVM's debugfs tells of the process's VM; empty where it tells nothing. */
static void do_protection(int argc, char **args, struct text *reply)
{
	char content[1024] = "";

	(void)argc, (void)args;
	read_debugfs("protected_memory", content, sizeof(content));
	text_add(reply, "{\"protection\":");
	text_add_string(reply, content);
	text_add(reply, "}");
}

/* One of KVM's counts, of all virtual CPUs; 0 when it has none. */
static unsigned long count_of(const char *name)
{
	char content[32] = "0";

	read_debugfs(name, content, sizeof(content));
	return strtoul(content, NULL, 10);
}

/* exits: how KVM_RUN has ended in the process, and how many instructions KVM's emulator carried out, and could not. */
static void do_exits(int argc, char **args, struct text *reply)
{
	int fd = open("/dev/" SEALPROOF_EXITS_NAME, O_RDWR | O_CLOEXEC);
	struct sealproof_exits exits = { .pid = (uint32_t)pid };

	(void)argc, (void)args;
	if (fd < 0 || ioctl(fd, SEALPROOF_EXITS, &exits)) {
		reply_errno(reply, "/dev/" SEALPROOF_EXITS_NAME, errno);
		if (fd >= 0)
			close(fd);
		return;
	}
	close(fd);
	text_add(reply, "{\"exits\":%llu,\"device\":%llu,\"missed\":%u,\"noted\":%llu,\"last\":[", exits.exits, exits.device,
		 exits.missed, exits.noted);
	for (uint64_t n = exits.noted > SEALPROOF_EXITS_KEPT ? exits.noted - SEALPROOF_EXITS_KEPT : 0; n < exits.noted; n++) {
		const struct sealproof_exit *exit = &exits.last[n % SEALPROOF_EXITS_KEPT];

		text_add(reply,
			 "%s{\"reason\":%u,\"result\":%d,\"suberror\":%u,\"is_write\":%s,\"gpa\":%llu,\"length\":%u}",
			 reply->data[reply->len - 1] == '[' ? "" : ",", exit->reason, exit->result, exit->suberror,
			 exit->is_write ? "true" : "false", exit->gpa, exit->length);
	}
	text_add(reply, "],\"emulated\":%lu,\"not_emulated\":%lu}", count_of("insn_emulation"),
		 count_of("insn_emulation_fail"));
}

/* tail PATH OFFSET: how long a file is, and what it has from there on, 1 MiB at most. */
static void do_tail(int argc, char **args, struct text *reply)
{
	static char content[(1 << 20) + 1];
	FILE *file = fopen(args[0], "re");
	uint64_t offset;

	(void)argc;
	if (!parse_number(args[1], &offset)) {
		reply_error(reply, "usage: tail PATH OFFSET");
	} else if (!file || fseek(file, 0, SEEK_END)) {
		reply_errno(reply, args[0], errno);
	} else {
		text_add(reply, "{\"size\":%ld,\"text\":", ftell(file));
		content[fseek(file, (long)offset, SEEK_SET) ? 0 : fread(content, 1, sizeof(content) - 1, file)] = 0;
		text_add_string(reply, content);
		text_add(reply, "}");
	}
	if (file)
		fclose(file);
}

static const struct command commands[] = {
	{ "pagemap", 1, MAX_WORDS - 1, "usage: pagemap ADDRESS ..", do_pagemap },
	{ "mappings", 1, MAX_WORDS - 1, "usage: mappings ADDRESS ..", do_mappings },
	{ "protection", 0, 0, "usage: protection", do_protection },
	{ "exits", 0, 0, "usage: exits", do_exits },
	{ "tail", 2, 2, "usage: tail PATH OFFSET", do_tail },
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
