/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's "edu" device (its docs/specs/edu.rst describes the registers), mapped into the program.
 */
#ifndef EDU_H
#define EDU_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "check.h"

#define DEVICES "/sys/bus/pci/devices"
#define EDU_BYTES 0x1000	/* what we use of 1 MiB */

/* Registers below 0x80 take 4-byte accesses only, those above 4 or 8. */
#define IDENTIFICATION 0x00	/* 0xRRrr00ed, RR.rr the version: 1.0 */
#define LIVENESS 0x04		/* reads back inverted */
#define FACTORIAL 0x08		/* reads back its factorial, modulo 2^32 */
#define STATUS 0x20		/* bit 0: the factorial is being computed */
#define DMA_SOURCE 0x80		/* this and the next two read back as written, 8 bytes each; 4 bytes clear the others */
#define DMA_DESTINATION 0x88
#define DMA_COUNT 0x90
#define DMA_COMMAND 0x98

/* Maps the device's registers, anywhere or at that address. */
volatile unsigned char *map_edu(void *where);

#endif
