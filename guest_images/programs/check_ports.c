// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_ports - strings that go from memory to ports, and from ports to memory: KVM has to read or write the memory.
 *
 * usage: check_ports [SEED]
 *
 * In ring 0, by the module guest_emulation; on private memory and on shared, within a page and across two, forward and
 * backward, by the access itself and by the forced-emulation prefix. What must come of it, the same accesses tell that
 * have registers in the place of memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

/* QEMU's fw_cfg (docs/specs/fw_cfg.rst): what is selected can be read byte by byte. */
#define SELECTOR 0x510
#define DATA 0x511
#define FILE_DIRECTORY 0x19	/* the number of files, and 64 bytes each */
#define SIGNATURE 0x00	/* "QEMU" */
/* A register of the second serial port (16550) that keeps a byte and does nothing: Linux looks at it at boot alone. */
#define SCRATCH 0x2ff
/* The address register of PCI's configuration space keeps 4 bytes. Linux sets it before each use, with interrupts off. */
#define PCI_ADDRESS 0xcf8

#define BYTES 240	/* each is an exit to the VMM */
#define ELEMENTS 16

static int device;
static uint64_t seed;
static unsigned char memory[SEALPROOF_STRING_BYTES];

static struct sealproof_string make(uint32_t port, uint32_t width, bool is_input, uint64_t count)
{
	return (struct sealproof_string){
		.port = port,
		.width = width,
		.is_input = is_input,
		.count = count,
		.buffer = (uintptr_t)memory,
	};
}

static void move(struct sealproof_string *request)
{
	if (ioctl(device, SEALPROOF_STRING, request))
		cannot("move a string");
}

static void by_registers(uint32_t port, uint32_t width, bool is_input, void *data, uint64_t count)
{
	struct sealproof_string request = make(port, width, is_input, count);

	request.by_elements = true;
	memcpy(memory, data, count * width);
	move(&request);
	memcpy(data, memory, count * width);
}

static void add_result(struct text *t, const struct sealproof_string *request, int64_t moved, uint64_t left)
{
	int64_t first = request->offset;

	if (request->backward)
		first -= (int64_t)((request->count - 1) * request->width);
	text_add(t, "moved %ld, left %lu, ", moved, left);
	text_add(t, "memory %016lx", fnv1a64(FNV_START, memory, sizeof(memory)));
	text_add(t, " from %ld ", first);
	for (uint64_t i = 0; i < 8; i++)
		text_add(t, "%02x", memory[first + (int64_t)i]);
}

static void report(const char *what, const struct sealproof_string *request, const struct text *expected,
		   const struct text *got)
{
	struct text t = { 0 };
	char name[160];

	snprintf(name, sizeof(name), "%s of %u bytes, %s, %s, %s, %s", what, request->width,
		 request->shared ? "shared" : "private", request->offset % SEALPROOF_PAGE_BYTES > 2048 ? "across pages" : "in a page",
		 request->backward ? "backward" : "forward", request->by_prefix ? "by the prefix" : "by the access itself");
	begin_check(&t, name);
	text_add(&t, ",\"expected\":");
	text_add_string(&t, expected->data);
	text_add(&t, ",\"got\":");
	text_add_string(&t, got->data);
	text_add(&t, "}");
	print_line(&t);
	free(t.data);
}

/* Each way, and where its memory begins. */
static void in_each_way(void (*check)(struct sealproof_string *request), struct sealproof_string request)
{
	for (unsigned int way = 0; way < 16; way++) {
		struct sealproof_string variant = request;

		variant.shared = way & 1;
		variant.by_prefix = way >> 1 & 1;
		variant.backward = way >> 2 & 1;
		variant.offset = way >> 3 & 1 ? SEALPROOF_PAGE_BYTES - 202 : 801;
		if (variant.backward)
			variant.offset += (uint32_t)((variant.count - 1) * variant.width);
		check(&variant);
	}
}

/* --- to memory ----------------------------------------------------------- */

static unsigned char right[BYTES];	/* what comes from the port */

static void check_input(struct sealproof_string *request)
{
	struct text expected = { 0 }, got = { 0 };
	int64_t bytes = (int64_t)(request->count * request->width), step = request->backward ? -1 : 1;
	uint16_t key = FILE_DIRECTORY;

	memset(memory, 0xee, sizeof(memory));
	for (int64_t i = 0; i < bytes; i++)
		memory[request->offset + step * i] = right[i];
	add_result(&expected, request, step * bytes, 0);

	by_registers(SELECTOR, 2, false, &key, 1);
	memset(memory, 0xee, sizeof(memory));
	move(request);
	add_result(&got, request, request->moved, request->left);
	report("rep ins", request, &expected, &got);
	free(expected.data);
	free(got.data);
}

static void check_inputs(void)
{
	uint16_t key = FILE_DIRECTORY;

	by_registers(SELECTOR, 2, false, &key, 1);
	by_registers(DATA, 1, true, right, sizeof(right));
	in_each_way(check_input, make(DATA, 1, true, sizeof(right)));
}

/* --- from memory --------------------------------------------------------- */

/* What a register keeps of a string is its last element. */
static void check_output(struct sealproof_string *request)
{
	struct text expected = { 0 }, got = { 0 };
	int64_t bytes = (int64_t)(request->count * request->width), step = request->backward ? -1 : 1;
	int64_t last = (int64_t)request->offset + step * (bytes - request->width);
	uint32_t arrived = 0, sent = 0;

	for (size_t i = 0; i < sizeof(memory); i++)
		memory[i] = (unsigned char)next_random(&seed);
	memcpy(&sent, memory + last, request->width);
	add_result(&expected, request, step * bytes, 0);
	text_add(&expected, ", the port has %x", sent);
	move(request);
	add_result(&got, request, request->moved, request->left);
	by_registers(request->port, request->width, true, &arrived, 1);
	text_add(&got, ", the port has %x", arrived);
	report(request->count == 1 ? "outs" : "rep outs", request, &expected, &got);
	free(expected.data);
	free(got.data);
}

/* The selector of fw_cfg: what it keeps is told by what can be read then. */
static void check_selection(struct sealproof_string *request)
{
	struct text expected = { 0 }, got = { 0 };
	unsigned char signature[4] = { 0 };
	uint16_t keys[2] = { FILE_DIRECTORY, SIGNATURE };
	int step = request->backward ? -1 : 1;

	memset(memory, 0, sizeof(memory));
	for (int i = 0; i < 2; i++)
		memcpy(memory + (int64_t)request->offset + 2 * i * step, &keys[i], sizeof(keys[i]));
	add_result(&expected, request, 4 * step, 0);
	text_add(&expected, ", selected QEMU");
	move(request);
	add_result(&got, request, request->moved, request->left);
	by_registers(DATA, 1, true, signature, sizeof(signature));
	text_add(&got, ", selected %.4s", signature);
	report("rep outs", request, &expected, &got);
	free(expected.data);
	free(got.data);
}

int main(int argc, char **argv)
{
	seed = number_argument(argc, argv, 1, clock_ns(CLOCK_REALTIME));
	device = open("/dev/" SEALPROOF_EMULATION_NAME, O_RDWR | O_CLOEXEC);
	if (device < 0)
		cannot("open /dev/" SEALPROOF_EMULATION_NAME);
	check_inputs();
	in_each_way(check_output, make(SCRATCH, 1, false, 1));
	in_each_way(check_output, make(SCRATCH, 1, false, BYTES));
	in_each_way(check_output, make(PCI_ADDRESS, 4, false, 1));
	in_each_way(check_output, make(PCI_ADDRESS, 4, false, ELEMENTS));
	in_each_way(check_selection, make(SELECTOR, 2, false, 2));
	return 0;
}
