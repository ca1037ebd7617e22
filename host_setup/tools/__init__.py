# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands beside sign-off and the own tests, and what those commands share."""
