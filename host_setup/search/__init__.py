# SPDX-License-Identifier: GPL-2.0-or-later
"""A search for a sequence of operations by guest and VMM after which somebody sees what is not theirs."""
