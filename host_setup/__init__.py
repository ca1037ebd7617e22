# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the host under test: what this machine offers, the kernel, the hosts and the channels to them."""
