/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sends a seeded pattern over a stream whose far end gives back what it receives, and compares what comes back.
 */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "check.h"

#define CHUNK (64u << 10)
#define PATIENCE_MS 20000

/*
 * Prints a check of that name: the FNV-1a 64-bit hash of what was sent and of what came back. Without progress for 20 s
 * it gives up, and "got" is what came until then. `fd` does not block.
 */
void exchange(const char *name, int fd, uint64_t total, uint64_t seed);

#endif
