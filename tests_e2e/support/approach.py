# SPDX-License-Identifier: GPL-2.0-or-later
"""The page before a canary of the guest's kernel: shared, so a copy can start there and run into the canary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from host_setup.channels.puppets import Puppet
from tests_e2e.support.attack import Target

APPROACH = b"\xa5"  # each byte of that page: SEALPROOF_APPROACH of guest_images/modules/sealproof_uapi.h


@contextmanager
def straddling(qemu: Puppet, page: Target, head: bytes) -> Iterator[int]:
    """The address of a structure that starts with ``head``, just before the page, and goes on in it."""
    at = page.hva - len(head)
    qemu.write(at, head)
    try:
        yield at
    finally:
        clean(qemu, page, len(head))


def clean(qemu: Puppet, page: Target, size: int) -> None:
    """Make the last bytes before the page what they were."""
    qemu.write(page.hva - size, APPROACH * size)
