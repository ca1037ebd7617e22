# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for a real machine: emulated, stock Debian with its own kernel and boot loader, reached by SSH alone."""
