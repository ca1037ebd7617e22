/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between the kernels that the modules are built for: Linux 6.1 and all after it. */
#ifndef SEALPROOF_COMPAT_H
#define SEALPROOF_COMPAT_H

#include <linux/version.h>

/* Before 6.4 hex_to_bin() and its like are in kernel.h. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <linux/hex.h>
#else
#include <linux/kernel.h>
#endif

/* What get_user_pages() takes came by and by. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define FOLL_PCI_P2PDMA 0
#define FOLL_INTERRUPTIBLE 0
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define FOLL_HONOR_NUMA_FAULT 0
#endif

/* Before 6.5 it could tell the VMAs, too. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define get_user_pages(start, count, flags, pages) (get_user_pages)(start, count, flags, pages, NULL)
#endif

/* Before 6.8 it has another name. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define KVM_MAX_NR_ADDRESS_SPACES KVM_ADDRESS_SPACE_NUM
#endif

#endif
