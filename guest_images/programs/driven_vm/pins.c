// SPDX-License-Identifier: GPL-2.0-or-later
/* Pages that the kernel pins: for a driver (gup_test), and as buffers of io_uring. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../lib/check.h"
#include "operations.h"
#include "page.h"
#include "vm.h"
#include "words.h"

#define HOLDERS 4u		/* buffers at a time */

/* mm/gup_test.h: the kernel's own test of pins, as drivers take them */
struct pin_longterm_test {
	uint64_t addr, size;
	uint32_t flags;
};

#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP _IO('g', 8)
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, uint64_t)

struct ring {
	int fd;
	struct io_uring_sqe *entry;
	struct io_uring_cqe *results;
	uint32_t *tail, *head, *mask;
	unsigned char *page;
};

static int pins;	/* the host has one such test at a time */
static uint64_t pinned_pages;
static struct ring rings[HOLDERS];

/* pin PLACE PAGES */
void do_pin(int argc, char **args, struct text *reply)
{
	struct pin_longterm_test pin = { (uintptr_t)place_of(args[0]), number_of(args[1]) * PAGE, 1 };	/* to write */

	(void)argc;
	if (!pins)
		pins = open_path("/sys/kernel/debug/gup_test", O_RDWR);
	pinned_pages = number_of(args[1]);
	add_error(reply, ioctl(pins, PIN_LONGTERM_TEST_START, &pin) ? errno : 0);
}

void do_pinned(int argc, char **args, struct text *reply)
{
	unsigned char *const copy = map_pages(pinned_pages);
	uint64_t address = (uintptr_t)copy;

	(void)argc;
	(void)args;
	if (ioctl(pins, PIN_LONGTERM_TEST_READ, &address))
		cannot("read what is pinned");
	text_add(reply, "[");
	for (unsigned int i = 0; i < pinned_pages; i++)
		add_each(reply, i, page_name(copy + i * PAGE));
	text_add(reply, "]");
	munmap(copy, pinned_pages * PAGE);
}

void do_unpin(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	add_error(reply, ioctl(pins, PIN_LONGTERM_TEST_STOP) ? errno : 0);
}

static void *map_ring(const struct ring *ring, off_t which)
{
	void *const where = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, which);

	if (where == MAP_FAILED)
		cannot("map a ring of io_uring");
	return where;
}

/* register HOLDER PLACE: a ring for one request at a time, with the page as its buffer; each part fits into a page */
void do_register(int argc, char **args, struct text *reply)
{
	struct ring *const ring = &rings[number_of(args[0]) % HOLDERS];
	struct io_uring_params params = { 0 };
	const struct iovec vector = { place_of(args[1]), PAGE };

	(void)argc;
	ring->fd = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (ring->fd < 0)
		cannot("have a ring of io_uring");
	ring->page = place_of(args[1]);
	ring->entry = map_ring(ring, IORING_OFF_SQES);
	ring->tail = (uint32_t *)((unsigned char *)map_ring(ring, IORING_OFF_SQ_RING) + params.sq_off.tail);
	unsigned char *const completions = map_ring(ring, IORING_OFF_CQ_RING);

	ring->head = (uint32_t *)(completions + params.cq_off.head);
	ring->mask = (uint32_t *)(completions + params.cq_off.ring_mask);
	ring->results = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
	add_error(reply, syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &vector, 1) ? errno : 0);
}

/* One request of the ring's buffer and a pipe. Return: its result. */
static int transfer(struct ring *ring, uint8_t opcode, int file)
{
	*ring->entry = (struct io_uring_sqe){ .opcode = opcode, .fd = file, .addr = (uintptr_t)ring->page, .len = PAGE };
	__atomic_store_n(ring->tail, *ring->tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		cannot("have io_uring do a request");
	const int result = ring->results[*ring->head & *ring->mask].res;

	__atomic_store_n(ring->head, *ring->head + 1, __ATOMIC_RELEASE);
	return result;
}

/* registered HOLDER [NUMBER]: what is in the buffer, or a page that comes for it */
void do_registered(int argc, char **args, struct text *reply)
{
	struct ring *const ring = &rings[number_of(args[0]) % HOLDERS];
	int ends[2], result;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		cannot("make a pipe");
	if (argc == 2) {
		mark_page(page_buffer, (uint32_t)number_of(args[1]));
		if (write(ends[1], page_buffer, PAGE) != (ssize_t)PAGE)
			cannot("write to a pipe");
	}
	result = transfer(ring, argc == 2 ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED, ends[argc == 2 ? 0 : 1]);
	if (result != (int)PAGE)
		add_result(reply, result < 0 ? errno_name(-result) : "short");
	else if (argc == 2)
		add_result(reply, "ok");
	else if (read(ends[0], page_buffer, PAGE) != (ssize_t)PAGE)
		cannot("read from a pipe");
	else
		add_result(reply, page_name(page_buffer));
	close(ends[0]);
	close(ends[1]);
}

void do_unregister(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, syscall(SYS_io_uring_register, rings[number_of(args[0]) % HOLDERS].fd, IORING_UNREGISTER_BUFFERS, NULL,
				 0) ? errno : 0);
	close(rings[number_of(args[0]) % HOLDERS].fd);
}
