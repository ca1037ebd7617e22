// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_mmio - loads and stores on an emulated device: QEMU's "edu" (its docs/specs/edu.rst describes the registers).
 *
 * usage: check_mmio [SEED]
 *
 * Each access leaves the guest, is decoded by KVM and carried out by QEMU.
 */
#define _GNU_SOURCE
#include "lib/check.h"
#include "lib/edu.h"

#define ROUNDS 8
#define PATIENCE_NS 5000000000ull

static volatile unsigned char *bar;

static uint32_t load4(int at)
{
	return *(volatile uint32_t *)(bar + at);
}

static void store4(int at, uint32_t value)
{
	*(volatile uint32_t *)(bar + at) = value;
}

static uint64_t load8(int at)
{
	return *(volatile uint64_t *)(bar + at);
}

static void store8(int at, uint64_t value)
{
	*(volatile uint64_t *)(bar + at) = value;
}

static uint32_t factorial(uint32_t n)
{
	uint32_t product = 1;

	while (n > 0)
		product *= n--;
	return product;
}

static uint32_t device_factorial(uint32_t n)
{
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

	store4(FACTORIAL, n);
	while (load4(STATUS) & 1) {
		if (clock_ns(CLOCK_MONOTONIC) > end) {
			errno = ETIMEDOUT;
			cannot("see the end of the factorial");
		}
	}
	return load4(FACTORIAL);
}

static void report(const char *name, const uint64_t *expected, const uint64_t *got, int count, int digits)
{
	struct text t = { 0 };

	begin_check(&t, name);
	add_hex_list(&t, "expected", expected, count, digits);
	add_hex_list(&t, "got", got, count, digits);
	text_add(&t, "}");
	print_line(&t);
}

int main(int argc, char **argv)
{
	uint64_t seed = number_argument(argc, argv, 1, clock_ns(CLOCK_REALTIME));
	uint64_t expected[2 * ROUNDS] = { 0x010000ed }, got[2 * ROUNDS];

	bar = map_edu(NULL);
	got[0] = load4(IDENTIFICATION);
	report("mmio identification, 4-byte load", expected, got, 1, 8);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t value = (uint32_t)next_random(&seed);

		store4(LIVENESS, value);
		expected[i] = (uint32_t)~value;
		got[i] = load4(LIVENESS);
	}
	report("mmio liveness, 4-byte store and load", expected, got, ROUNDS, 8);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t value = (uint32_t)(next_random(&seed) % 20);

		expected[i] = factorial(value);
		got[i] = device_factorial(value);
	}
	report("mmio factorial, computed by the device", expected, got, ROUNDS, 8);
	for (int i = 0; i < ROUNDS; i++) {
		/* Both stores before both loads, so that a value that is only passed through would show. */
		expected[2 * i] = next_random(&seed);
		expected[2 * i + 1] = next_random(&seed);
		store8(DMA_SOURCE, expected[2 * i]);
		store8(DMA_DESTINATION, expected[2 * i + 1]);
		got[2 * i] = load8(DMA_SOURCE);
		got[2 * i + 1] = load8(DMA_DESTINATION);
	}
	report("mmio DMA registers, 8-byte store and load", expected, got, 2 * ROUNDS, 16);
	return 0;
}
