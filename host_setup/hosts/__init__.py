# SPDX-License-Identifier: GPL-2.0-or-later
"""What all kinds of host under test share, and their guests."""
