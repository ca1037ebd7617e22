# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages a guest has shared, by the guest's own account: the host's kernel is not asked.

The guest's kernel writes down what it shares and takes back, and tells it in debugfs (``kvm_shared_memory``, see
Documentation/virt/kvm/x86/protected-memory.rst of the series).
"""

from __future__ import annotations

import re

from common.errors import MachineError
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE

TIMEOUT = 30.0  # for a guest to read a file, on a busy machine
# No guest asks for these pages: the host shares them from the start (same documentation).
FIRMWARE = frozenset(range(0xC0000, 0x100000, PAGE))
_FILE = "/sys/kernel/debug/kvm_shared_memory"
_HEADING = "kept"  # is said where the file is, which is empty as long as nothing is shared
_RANGE = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+)")


def account_of(guest: Guest) -> list[list[int]] | None:
    """What a guest has shared: guest-physical address in bytes, and how many pages, in order.

    None: the guest is not protected, or its kernel keeps no account.

    :raises MachineError: the account is not complete, or cannot be read.
    """
    script = f"[ ! -e {_FILE} ] || {{ echo {_HEADING} && cat {_FILE}; }}"
    return parse(guest.ssh.run(["sh", "-c", script], seconds=TIMEOUT).require().text)


def parse(text: str) -> list[list[int]] | None:
    """What a guest says of its account.

    :raises MachineError: as ``account_of``.
    """
    lines = text.splitlines()
    return [_run(line) for line in lines[1:]] if lines[:1] == [_HEADING] else None


def _run(line: str) -> list[int]:
    match = _RANGE.fullmatch(line)
    if match is None:
        raise MachineError(f"the guest's account of what it shares has a line that is no range of pages: {line!r}")
    first, last = (int(word, 16) for word in match.groups())
    return [first, (last + 1 - first) // PAGE]
