# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that runs in a QEMU of ours, emulated or nested: its QEMU, its boot, its saved state."""
