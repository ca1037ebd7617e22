# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests on the emulated host: no test that passes on one kernel may fail on another.

``build`` compiles them, ``suites`` says which there are, ``run`` runs them one by one, ``ktap`` reads what they say,
``compare`` sets two kernels beside each other.
"""
