# SPDX-License-Identifier: GPL-2.0-or-later
"""Pins that outlive the call that asked for them.

Some users of pinned pages let go of them in a worker of the kernel, after their file is closed. Until then the guest
cannot take the page back (EBUSY), and the next attack could not plant its canary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from common.waiting import Deadline, poll_until
from host_setup.channels.ssh import Ssh

TIMEOUT = 20.0


@contextmanager
def pins_let_go(ssh: Ssh) -> Iterator[None]:
    """When the context ends, wait until no more pages of the host are pinned than before it."""
    before = _count_pins(ssh)
    yield
    poll_until(
        lambda: _count_pins(ssh) <= before, Deadline(TIMEOUT), "the kernel to let go of the pages that it pinned"
    )


def _count_pins(ssh: Ssh) -> int:
    """How many pins there are: pages that are pinned twice count twice."""
    # The counters are per CPU until they are asked to be brought together.
    script = "cat /proc/sys/vm/stat_refresh && grep nr_foll_pin_ /proc/vmstat"
    counted = dict(line.split() for line in ssh.run(["sh", "-c", script], seconds=10).require().text.splitlines())
    return int(counted["nr_foll_pin_acquired"]) - int(counted["nr_foll_pin_released"])
