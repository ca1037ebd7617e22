/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages shared with the host with their content, which it is to see here:
 * set_memory_decrypted() may clear a page before the host sees it.
 */
#ifndef SEALPROOF_SHARE_CONTENT_H
#define SEALPROOF_SHARE_CONTENT_H

#include <linux/set_memory.h>
#include <linux/slab.h>
#include <linux/string.h>

static inline int share_content(void *pages, unsigned int count)
{
	void *content = kmemdup(pages, count * PAGE_SIZE, GFP_KERNEL);
	int err;

	if (!content)
		return -ENOMEM;
	err = set_memory_decrypted((unsigned long)pages, count);
	memcpy(pages, content, count * PAGE_SIZE);
	kfree_sensitive(content);
	return err;
}

#endif
