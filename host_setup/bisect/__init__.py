# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to the first bad patch: ``sealproof bisect``, and ``try`` for ``git bisect run``."""
