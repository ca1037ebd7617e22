// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * share_free - shares free memory with the host, as it is, and keeps it shared
 *
 * usage: share_free [SECONDS [PARTS]]       600 by default; then it ends, and the memory is taken back
 *
 * With PARTS, which is not 0, it takes the first and the last page of each buffer back at once.
 *
 * Needs the module guest_canary. In a guest that is not protected there is nothing to share: it has the memory all the same.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

#define ENDS 2	/* pages of a buffer that SEALPROOF_TAKE_BACK_ENDS takes back */

int main(int argc, char **argv)
{
	const uint64_t seconds = number_argument(argc, argv, 1, 600);
	const bool parts = number_argument(argc, argv, 2, 0);
	const unsigned int pages = SEALPROOF_FREE_SHARED - (parts ? ENDS : 0);
	const int fd = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, SEALPROOF_SHARE_FREE))
		cannot("share free memory");
	if (parts && ioctl(fd, SEALPROOF_TAKE_BACK_ENDS))
		cannot("take parts of it back");
	printf("{\"shared\":%u}\n", SEALPROOF_FREE_BLOCKS * pages);
	fflush(stdout);
	sleep((unsigned int)seconds);
	return 0;
}
