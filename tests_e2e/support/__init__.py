# SPDX-License-Identifier: GPL-2.0-or-later
"""What the claims' tests are written with."""
