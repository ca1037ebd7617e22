# SPDX-License-Identifier: GPL-2.0-or-later
"""Which added lines and branches of a series are executed, and by which claim. ``__main__`` says how it is run."""
