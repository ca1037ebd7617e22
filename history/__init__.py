# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of each claim over many runs: history, comparison, nights and their pages.

It reads the ``signoff.json`` of finished runs. Neither the judge nor the machines know it.
"""
