# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts that all packages use: errors, deadlines, owned processes, the cache, progress."""
