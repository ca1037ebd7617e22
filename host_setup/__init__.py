# SPDX-License-Identifier: GPL-2.0-or-later
"""How a host under test comes to exist: what the machine offers, the kernel, the hosts and the channels to them."""
