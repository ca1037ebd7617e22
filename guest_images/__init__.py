# SPDX-License-Identifier: GPL-2.0-or-later
"""What hosts and guests boot: root file system, initramfs, and the programs that run inside."""
