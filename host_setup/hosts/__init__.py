# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts under test: what they are, and the kinds of them."""
