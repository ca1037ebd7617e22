# SPDX-License-Identifier: GPL-2.0-or-later
"""``make test-hosts``: the whole way of a real machine, and all that can go wrong on it, on an emulated stand-in."""
