# SPDX-License-Identifier: GPL-2.0-or-later
"""One command, ``sealproof``, for everything that a person starts.

``table`` is the list of commands. A command is a module with ``main(argv)``, which returns the exit status, and
``options_parser()``, from which help and completion come. Most of these modules lie beside what they start; those here
start several things in a row. Nothing imports this package.
"""
