// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * canary - holds the guest's canaries: random pages that nobody else has, at guest-physical addresses that it tells.
 *
 * usage: canary [DIR]       requests on stdin, one JSON reply a line on stdout; README.md lists them.
 *
 * Kinds: user (anonymous memory), kernel (a page of the module guest_canary), page-cache (a file in DIR, which must be
 * ramfs or tmpfs, unlinked at once). Sets: subject, control. Each canary has a 4 KiB page of its own, so that a page
 * can be shared with the host without another canary coming along; user and file pages are locked in memory.
 *
 * The pages of the control set are shared with the host before anything is put into them; at the next plant, and when
 * this program ends, they are private again. In a guest that did not ask for protection the same is done and has no
 * effect. The module tells the state of each page (plain, private, shared): nothing here assumes one.
 *
 * A canary's bytes are what ChaCha20 makes of a random key. The key leaves this program by its standard output, and the
 * bytes that are not as planted do; every buffer that the bytes pass is wiped.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <linux/random.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>

#include "../modules/sealproof_uapi.h"
#include "lib/chacha20.h"
#include "lib/line_server.h"

#define PAGE SEALPROOF_PAGE_BYTES
#define MIN_SEED 32
#define MAX_SEED 512
#define MAX_HOLD_MS 10000
#define TURNS 16	/* pages of ours that a canary goes through, another one at each plant */
#define HELD 320	/* bytes in registers */
#define HOLD_ROUNDS 1000000	/* some milliseconds under emulation */

enum kind { USER, KERNEL, PAGE_CACHE, KINDS };
enum set { SUBJECT, CONTROL, SETS };

static const char *const kind_names[] = { "user", "kernel", "page-cache" };
static const char *const set_names[] = { "subject", "control" };
static const char *const state_names[] = {
	[SEALPROOF_PLAIN] = "plain", [SEALPROOF_PRIVATE] = "private", [SEALPROOF_SHARED] = "shared",
};
#define STATES (sizeof(state_names) / sizeof(state_names[0]))

struct canary {
	enum kind kind;
	enum set set;
	unsigned char *page;	/* user, page-cache: our mapping of it */
	int file;		/* page-cache */
	struct turn {
		unsigned char *page;
		int file;
	} turns[TURNS];		/* the pages that it has had, and has again in its turn */
	unsigned int turn;
	bool shared;		/* with the host; in a plain guest with no effect */
	uint64_t gpa;		/* where it was planted; 0: not yet */
	unsigned char key[CHACHA20_KEY];	/* of its bytes */
};

static struct canary canaries[KINDS][SETS];
static const char *directory = "/tmp";
static int device = -1, pagemap = -1;
static volatile sig_atomic_t stop;

/* Writes the name of what failed, and errno, into the reply. */
static bool fail(struct text *reply, const char *what)
{
	reply_errno(reply, what, errno);
	return false;
}

/* The physical address behind one of our mapped pages; false with errno when it has none or we may not know. */
static bool physical_address(const void *page, uint64_t *gpa)
{
	uint64_t entry;
	off_t at = (off_t)((uintptr_t)page / PAGE * sizeof(entry));

	/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bits 0-54 the frame, zero without CAP_SYS_ADMIN. */
	if (pread(pagemap, &entry, sizeof(entry), at) != (ssize_t)sizeof(entry))
		return false;
	uint64_t frame = entry & ((1ull << 55) - 1);

	if (!(entry >> 63) || !frame) {
		errno = entry >> 63 ? EPERM : ENOENT;
		return false;
	}
	*gpa = frame * PAGE;
	return true;
}

static bool mix_seed(const unsigned char *seed, size_t len, struct text *reply)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[MAX_SEED];
	} pool = { .info = { .entropy_count = (int)len * 8, .buf_size = (int)len } };
	int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(reply, "/dev/urandom");
	memcpy(pool.info.buf, seed, len);
	/* Without the reseed the bytes would be used only at the next one, a minute or more away. */
	bool good = !ioctl(fd, RNDADDENTROPY, &pool) && !ioctl(fd, RNDRESEEDCRNG);
	int err = errno;

	explicit_bzero(&pool, sizeof(pool));
	close(fd);
	errno = err;
	return good || fail(reply, "mix the seed into the RNG");
}

/* A fresh key for the canary, and what it makes. Up to 256 bytes come whole (getrandom(2)). */
static bool fill_random(struct canary *c, unsigned char *bytes)
{
	if (getrandom(c->key, sizeof(c->key), 0) != (ssize_t)sizeof(c->key))
		return false;
	chacha20(c->key, bytes, PAGE);
	return true;
}

/* A page of our own in a mapping of its own: anonymous, or of the file. Locked and populated. */
static unsigned char *map_page(int file)
{
	int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, file, 0);

	if (page == MAP_FAILED)
		return NULL;
	if (madvise(page, PAGE, MADV_DONTFORK) || mlock(page, PAGE)) {
		int err = errno;

		munmap(page, PAGE);
		errno = err;
		return NULL;
	}
	return page;
}

static int make_file(void)
{
	char path[4096];
	struct statfs fs;

	if (statfs(directory, &fs))
		return -1;
	if (fs.f_type != RAMFS_MAGIC && fs.f_type != TMPFS_MAGIC) {
		errno = EMEDIUMTYPE;	/* on a disk the canary would outlive us */
		return -1;
	}
	snprintf(path, sizeof(path), "%s/canary.XXXXXX", directory);
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd >= 0) {
		unlink(path);
		if (ftruncate(fd, PAGE)) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

static bool open_module(struct text *reply)
{
	if (device < 0)
		device = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);
	return device >= 0 || fail(reply, "/dev/" SEALPROOF_CANARY_NAME);
}

/* One request to the module about the canary's page; false with errno. */
static bool ask_module(const struct canary *c, unsigned long command, const void *buffer, struct sealproof_canary *answer)
{
	*answer = (struct sealproof_canary){ .slot = (uint32_t)c->kind * SETS + c->set, .buffer = (uintptr_t)buffer };
	return !ioctl(device, command, answer);
}

/* The name of who may see the canary's page now; NULL with errno. */
static const char *state_of(const struct canary *c)
{
	struct sealproof_canary answer;

	if (!ask_module(c, SEALPROOF_CANARY_STATE, NULL, &answer))
		return NULL;
	if (answer.state >= STATES || !state_names[answer.state]) {
		errno = EPROTO;
		return NULL;
	}
	return state_names[answer.state];
}

static bool fail_on_page(struct text *reply, const char *doing, const struct canary *c)
{
	char what[64];

	snprintf(what, sizeof(what), "%s the %s page", doing, kind_names[c->kind]);
	return fail(reply, what);
}

static bool make_private(struct canary *c, struct text *reply)
{
	struct sealproof_canary answer;

	if (c->shared && !ask_module(c, SEALPROOF_CANARY_UNSHARE, NULL, &answer))
		return fail_on_page(reply, "make private", c);
	c->shared = false;
	return true;
}

/* Shares the canary's page anew, so that each plant is a page's whole way: private, shared, private again. */
static bool share_again(struct canary *c, struct text *reply)
{
	struct sealproof_canary answer;

	if (!make_private(c, reply))
		return false;
	if (!ask_module(c, SEALPROOF_CANARY_SHARE, c->page, &answer))
		return fail_on_page(reply, "share", c);
	c->shared = true;
	return true;
}

/*
 * Gives the canary a page: another one than before, unless it is to stay, so that not the same few pages are attacked
 * all the time. The module's own it keeps.
 */
static bool prepare(struct canary *c, bool stay, struct text *reply)
{
	if (c->kind == KERNEL || (stay && c->page))
		return true;
	if (!make_private(c, reply))
		return false;
	if (c->page) {
		explicit_bzero(c->page, PAGE);
		c->turns[c->turn] = (struct turn){ c->page, c->file };
		c->turn = (c->turn + 1) % TURNS;
	}
	c->page = c->turns[c->turn].page;
	c->file = c->turns[c->turn].file;
	if (c->page)
		return true;
	if (c->kind == PAGE_CACHE) {
		c->file = make_file();
		if (c->file < 0)
			return fail(reply, "a file in ramfs or tmpfs for the page cache");
	}
	c->page = map_page(c->kind == PAGE_CACHE ? c->file : -1);
	return c->page || fail(reply, "map and lock a page");
}

/* Moves the canary's bytes between its page and `bytes`, and says where the page is. */
static bool access_page(struct canary *c, bool plant, unsigned char *bytes, uint64_t *gpa, struct text *reply)
{
	if (c->kind == KERNEL) {
		struct sealproof_canary answer;

		if (!ask_module(c, plant ? SEALPROOF_CANARY_PLANT : SEALPROOF_CANARY_READ, bytes, &answer))
			return fail(reply, "ioctl on /dev/" SEALPROOF_CANARY_NAME);
		*gpa = answer.gpa;
		return true;
	}
	if (c->kind == USER) {
		if (plant)
			memcpy(c->page, bytes, PAGE);
		else
			memcpy(bytes, c->page, PAGE);
	} else {
		ssize_t n = plant ? pwrite(c->file, bytes, PAGE, 0) : pread(c->file, bytes, PAGE, 0);

		if (n != PAGE) {
			errno = n < 0 ? errno : EIO;
			return fail(reply, "read or write of the page-cache file");
		}
	}
	return physical_address(c->page, gpa) || fail(reply, "/proc/self/pagemap");
}

static void add_name(const struct canary *c, const char *state, struct text *reply)
{
	text_add(reply, "{\"kind\":\"%s\",\"set\":\"%s\",", kind_names[c->kind], set_names[c->set]);
	text_add(reply, "\"state\":\"%s\",\"gpa\":", state);
}

static bool plant_one(struct canary *c, bool stay, struct text *list, struct text *reply)
{
	unsigned char bytes[PAGE], content[PAGE];
	uint64_t gpa = 0, again = 0;
	const char *state = NULL;
	bool good = prepare(c, stay, reply) && (c->set != CONTROL || share_again(c, reply));

	if (good && !fill_random(c, bytes))
		good = fail(reply, "getrandom");
	good = good && access_page(c, true, bytes, &gpa, reply) && access_page(c, false, content, &again, reply);
	if (good && (gpa != again || memcmp(bytes, content, PAGE))) {
		reply_error(reply, "a canary did not stay where it was planted");
		good = false;
	}
	if (good && !(state = state_of(c)))
		good = fail_on_page(reply, "tell the state of", c);
	if (good) {
		c->gpa = gpa;
		add_name(c, state, list);
		text_add(list, "%lu,\"key\":\"", (unsigned long)gpa);
		text_add_hex(list, c->key, sizeof(c->key));
		text_add(list, "\"}");
	}
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(content, sizeof(content));
	return good;
}

static void do_plant(int argc, char **args, struct text *reply)
{
	struct text list = { 0 };
	unsigned char *seed;
	size_t len;

	const bool stay = argc == 2;

	if (!parse_hex(args[0], &seed, &len) || len < MIN_SEED || len > MAX_SEED || (stay && strcmp(args[1], "again"))) {
		reply_error(reply, "usage: plant HEXSEED [again]; 32 to 512 bytes");
		return;
	}
	if (!open_module(reply) || !mix_seed(seed, len, reply))
		return;
	bool good = true;

	for (int kind = 0; kind < KINDS && good; kind++) {
		for (int set = 0; set < SETS && good; set++) {
			if (list.len)
				text_add(&list, ",");
			good = plant_one(&canaries[kind][set], stay, &list, reply);
		}
	}
	if (good) {
		text_add(reply, "{\"canaries\":[");
		text_add_bytes(reply, list.data, list.len);
		text_add(reply, "]}");
	}
	free(list.data);
}

static int index_of(const char *word, const char *const *names, int count)
{
	for (int i = 0; i < count; i++) {
		if (!strcmp(word, names[i]))
			return i;
	}
	return -1;
}

/* Each run of bytes that are not as planted: its offset, and what is there. */
static void add_changed(const unsigned char *planted, const unsigned char *bytes, struct text *reply)
{
	bool first = true;

	text_add(reply, "\"changed\":[");
	for (size_t at = 0, end; at < PAGE; at = end) {
		bool same = planted[at] == bytes[at];

		for (end = at + 1; end < PAGE && (planted[end] == bytes[end]) == same; end++)
			;
		if (same)
			continue;
		text_add(reply, "%s[%zu,\"", first ? "" : ",", at);
		text_add_hex(reply, bytes + at, end - at);
		text_add(reply, "\"]");
		first = false;
	}
	text_add(reply, "]}");
}

static void do_read(int argc, char **args, struct text *reply)
{
	int kind = index_of(args[0], kind_names, KINDS), set = index_of(args[1], set_names, SETS);
	unsigned char planted[PAGE], bytes[PAGE];
	uint64_t gpa = 0;

	(void)argc;
	if (kind < 0 || set < 0) {
		reply_error(reply, "usage: read user|kernel|page-cache private|control");
		return;
	}
	struct canary *c = &canaries[kind][set];

	if (!c->gpa) {
		reply_error(reply, "nothing planted");
		return;
	}
	const char *state = state_of(c);

	if (!state) {
		fail_on_page(reply, "tell the state of", c);
	} else if (access_page(c, false, bytes, &gpa, reply)) {
		add_name(c, state, reply);
		text_add(reply, "%lu,\"planted_gpa\":%lu,\"moved\":%s,", (unsigned long)gpa, (unsigned long)c->gpa,
			 gpa == c->gpa ? "false" : "true");
		chacha20(c->key, planted, PAGE);
		add_changed(planted, bytes, reply);
		explicit_bzero(planted, sizeof(planted));
	}
	explicit_bzero(bytes, sizeof(bytes));
}

/* Shares a planted canary's page with the host, or makes it private again, and tells what it is then. */
static void change_state(char **args, bool share, struct text *reply)
{
	int kind = index_of(args[0], kind_names, KINDS), set = index_of(args[1], set_names, SETS);
	struct sealproof_canary answer;

	if (kind < 0 || set < 0) {
		reply_error(reply, "usage: share or unshare, user|kernel|page-cache private|control");
		return;
	}
	struct canary *c = &canaries[kind][set];

	if (!c->gpa) {
		reply_error(reply, "nothing planted");
		return;
	}
	if (!ask_module(c, share ? SEALPROOF_CANARY_SHARE : SEALPROOF_CANARY_UNSHARE, c->page, &answer)) {
		fail_on_page(reply, share ? "share" : "make private", c);
		return;
	}
	c->shared = share;
	const char *state = state_of(c);

	if (state)
		text_add(reply, "{\"state\":\"%s\"}", state);
	else
		fail_on_page(reply, "tell the state of", c);
}

static void do_share(int argc, char **args, struct text *reply)
{
	(void)argc;
	change_state(args, true, reply);
}

static void do_unshare(int argc, char **args, struct text *reply)
{
	(void)argc;
	change_state(args, false, reply);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define FORCED ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n\t"	/* ud2; "kvm": KVM's emulator carries out what follows */

static sigjmp_buf not_emulated;

static void on_ud2(int number)
{
	siglongjmp(not_emulated, number);
}

/* Whether KVM knows the prefix (its parameter force_emulation_prefix); to others it is an invalid instruction. */
static bool is_emulated(void)
{
	struct sigaction ours = { .sa_handler = on_ud2 }, before;
	volatile bool emulated = false;

	sigaction(SIGILL, &ours, &before);
	if (!sigsetjmp(not_emulated, 1)) {
		asm volatile(FORCED "nop");
		emulated = true;
	}
	sigaction(SIGILL, &before, NULL);
	return emulated;
}

/*
 * Loads 320 bytes into r8 to r15 and xmm0 to xmm15, keeps them there for so many rounds of a loop, puts down what is
 * there then, and leaves nothing of them behind. So that each place has some in which KVM keeps registers, r8 is copied
 * to rax, which is in the processor's control block; KVM's emulator does it where it can be told to.
 */
static void hold_in_registers(const unsigned char *bytes, uint64_t rounds, unsigned char *content, bool emulated)
{
#define XMM(n, at) "movdqu " #at "(%0), %%xmm" #n "\n\t"
#define XMM_FOUND(n, at) "movdqu %%xmm" #n ", " #at "(%2)\n\tpxor %%xmm" #n ", %%xmm" #n "\n\t"
#define EACH_XMM(what) what(0, 64) what(1, 80) what(2, 96) what(3, 112) what(4, 128) what(5, 144) what(6, 160) \
	what(7, 176) what(8, 192) what(9, 208) what(10, 224) what(11, 240) what(12, 256) what(13, 272) what(14, 288) \
	what(15, 304)
	asm volatile(EACH_XMM(XMM)
		     "mov (%0), %%r8\n\tmov 8(%0), %%r9\n\tmov 16(%0), %%r10\n\tmov 24(%0), %%r11\n\t"
		     "mov 32(%0), %%r12\n\tmov 40(%0), %%r13\n\tmov 48(%0), %%r14\n\tmov 56(%0), %%r15\n"
		     "test %3, %3\n\tjz 2f\n\t" FORCED "2:\tmov %%r8, %%rax\n"
		     "1:\tdec %1\n\tjnz 1b\n\t"
		     "mov %%r8, (%2)\n\tmov %%r9, 8(%2)\n\tmov %%r10, 16(%2)\n\tmov %%r11, 24(%2)\n\t"
		     "mov %%r12, 32(%2)\n\tmov %%r13, 40(%2)\n\tmov %%r14, 48(%2)\n\tmov %%r15, 56(%2)\n\t"
		     EACH_XMM(XMM_FOUND)
		     "xor %%eax, %%eax\n\txor %%r8d, %%r8d\n\txor %%r9d, %%r9d\n\txor %%r10d, %%r10d\n\txor %%r11d, %%r11d\n\t"
		     "xor %%r12d, %%r12d\n\txor %%r13d, %%r13d\n\txor %%r14d, %%r14d\n\txor %%r15d, %%r15d"
		     : "+D"(bytes), "+c"(rounds), "+S"(content)
		     : "d"((int)emulated)
		     : "rax", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
		       "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
		       "cc", "memory");
}

/* A breakpoint of our own on the page, so that the debug registers say where it is; nobody stops us at it. */
static int watch_page(const unsigned char *page)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr), .bp_type = HW_BREAKPOINT_W, .exclude_kernel = 1,
		.bp_addr = (uintptr_t)page, .bp_len = HW_BREAKPOINT_LEN_8,
	};

	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Works with the first bytes of a user canary in registers, as a program does with a key, for so long. */
static void do_hold(int argc, char **args, struct text *reply)
{
	int set = index_of(args[0], set_names, SETS);
	uint64_t ms;

	(void)argc;
	if (set < 0 || !parse_number(args[1], &ms) || !ms || ms > MAX_HOLD_MS) {
		reply_error(reply, "usage: hold subject|control MILLISECONDS; 10000 at most");
		return;
	}
	struct canary *c = &canaries[USER][set];

	if (!c->gpa) {
		reply_error(reply, "nothing planted");
		return;
	}
	unsigned char content[HELD];
	bool is_intact = true;
	bool emulated = is_emulated();
	int watch = watch_page(c->page);

	for (uint64_t end = now_ms() + ms; now_ms() < end;) {
		hold_in_registers(c->page, HOLD_ROUNDS, content, emulated);
		is_intact = is_intact && !memcmp(content, c->page, HELD);
	}
	explicit_bzero(content, sizeof(content));
	if (watch >= 0)
		close(watch);
	text_add(reply, "{\"held\":%lu,\"kept\":%s,", (unsigned long)ms, is_intact ? "true" : "false");
	text_add(reply, "\"address\":%lu,\"watched\":%s,\"emulated\":%s}",
		 (unsigned long)(uintptr_t)c->page, watch < 0 ? "false" : "true", emulated ? "true" : "false");
}

static void do_protected(int argc, char **args, struct text *reply)
{
	const struct canary *unshared = &canaries[KERNEL][SUBJECT];

	(void)argc, (void)args;
	if (!open_module(reply))
		return;
	const char *state = state_of(unshared);

	if (!state)
		fail_on_page(reply, "tell the state of", unshared);
	else
		text_add(reply, "{\"protected\":%s}", strcmp(state, "plain") ? "true" : "false");
}

static const struct command commands[] = {
	{ "protected", 0, 0, "usage: protected", do_protected },
	{ "plant", 1, 2, "usage: plant HEXSEED [again]", do_plant },
	{ "read", 2, 2, "usage: read user|kernel|page-cache private|control", do_read },
	{ "share", 2, 2, "usage: share user|kernel|page-cache private|control", do_share },
	{ "hold", 2, 2, "usage: hold subject|control MILLISECONDS", do_hold },
	{ "unshare", 2, 2, "usage: unshare user|kernel|page-cache private|control", do_unshare },
	{ 0 },
};

int main(int argc, char **argv)
{
	if (argc > 2) {
		fprintf(stderr, "usage: canary [DIR]\n");
		return 2;
	}
	if (argc == 2)
		directory = argv[1];
	for (int kind = 0; kind < KINDS; kind++) {
		for (int set = 0; set < SETS; set++)
			canaries[kind][set] = (struct canary){ .kind = kind, .set = set, .file = -1 };
	}
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0) {
		perror("/proc/self/pagemap");
		return 1;
	}
	serve_lines(commands, &stop, NULL);
	return 0;
}
