// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "chacha20.h"

static uint32_t rotated(uint32_t word, int bits)
{
	return word << bits | word >> (32 - bits);
}

static void quarter_round(uint32_t *s, int a, int b, int c, int d)
{
	s[a] += s[b], s[d] = rotated(s[d] ^ s[a], 16);
	s[c] += s[d], s[b] = rotated(s[b] ^ s[c], 12);
	s[a] += s[b], s[d] = rotated(s[d] ^ s[a], 8);
	s[c] += s[d], s[b] = rotated(s[b] ^ s[c], 7);
}

void chacha20(const unsigned char key[CHACHA20_KEY], unsigned char *bytes, size_t len)
{
	uint32_t start[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }, s[16];

	memcpy(start + 4, key, CHACHA20_KEY);	/* little-endian, as x86 is */
	for (; len; len -= CHACHA20_BLOCK, bytes += CHACHA20_BLOCK, start[12]++) {
		memcpy(s, start, sizeof(s));
		for (int round = 0; round < 20; round += 2) {
			for (int i = 0; i < 4; i++)
				quarter_round(s, i, 4 + i, 8 + i, 12 + i);
			for (int i = 0; i < 4; i++)
				quarter_round(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
		}
		for (int i = 0; i < 16; i++)
			s[i] += start[i];
		memcpy(bytes, s, CHACHA20_BLOCK);
	}
	explicit_bzero(start, sizeof(start));
	explicit_bzero(s, sizeof(s));
}
