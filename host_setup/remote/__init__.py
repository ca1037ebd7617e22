# SPDX-License-Identifier: GPL-2.0-or-later
"""A real machine under test: leased, given another kernel for a while, and put back as it was.

::

    control.py     the way to it: SSH sessions that are made again after a reboot
    keeper.sh      what it does by itself, so that it comes back also when nobody asks it to
    leased.py      its states: leased -> provisioned -> booted -> restored
    console.py     what its kernel says
    userland.sh    where the probes run on it: the hosts' own root file system, in its memory
    host.py        the host that the probes see
"""
