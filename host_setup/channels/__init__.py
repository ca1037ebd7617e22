# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to talk to a machine: SSH, QMP, the console. Every call has a deadline and ends when its machine dies."""
