# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutation of a series: faults are put into it one by one, and each must be named by a claim.

::

    text            C as a text: comments out of sight, brackets, functions
    added           the lines that a series adds to a tree
    operators       which faults can be put into these lines
    faults          faults that were made by hand, with the claims that must name each
    claims          the claims that cover a mutant, in the order in which they are tried
    trial           one mutant: compiled, booted, tried
    book            what came of each, kept so that a run may be ended at any moment; the table
"""
