/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ChaCha20 (RFC 8439, 2.3): what a key makes, so that 32 bytes tell of a page. Nonce and first counter are 0. */
#ifndef SEALPROOF_CHACHA20_H
#define SEALPROOF_CHACHA20_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CHACHA20_KEY 32		/* bytes */
#define CHACHA20_BLOCK 64	/* bytes */

/* Fills `bytes`, whole blocks of them, with the key stream.. */
void chacha20(const unsigned char key[CHACHA20_KEY], unsigned char *bytes, size_t len);

#endif
