# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.nights``: twenty nights, each of real runs, with seeded faults."""
