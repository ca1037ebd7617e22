# SPDX-License-Identifier: GPL-2.0-or-later
"""What every room of the house uses: errors, deadlines, owned processes, the cache, progress."""
