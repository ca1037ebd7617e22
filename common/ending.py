# SPDX-License-Identifier: GPL-2.0-or-later
"""How a system call or a piece of machine code ended: one value, from the puppet to the report."""

from __future__ import annotations

import errno
from dataclasses import dataclass

ERRNO = {133: "EHWPOISON", **errno.errorcode}
"""Names of errnos by their numbers; Python 3.11 does not know all that Linux has."""

LAST_ERRNO = 4095
"""A result from -4095 to -1 is a negative errno (MAX_ERRNO of include/linux/err.h)."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    :ivar returned: a system call's value, -1 with ``errno`` as in C; for code ``rax``; None after a signal, and for a
        load, which returns nothing.
    :ivar errno: its name, ``EFAULT``.
    :ivar signal: its name, ``SIGBUS``.
    :ivar si_code: its name, ``BUS_ADRERR``.
    :ivar si_addr: the faulting address.
    """

    returned: int | None = None
    errno: str | None = None
    signal: str | None = None
    si_code: str | None = None
    si_addr: int | None = None

    def parts(self) -> tuple[tuple[str, int | str | None], ...]:
        """What a contract states of it, each part with its name; the faulting address is not among them."""
        return (
            ("returned", self.returned),
            ("errno", self.errno),
            ("signal", self.signal),
            ("si_code", self.si_code),
        )

    def words(self) -> list[str]:
        """A phrase for the value and one for the signal, each only if there is one."""
        phrases = []
        if self.returned is not None or self.errno is not None:
            phrases.append(
                f"returned {'nothing' if self.returned is None else self.returned}"
                f"{f' {self.errno}' if self.errno else ''}"
            )
        if self.signal is not None or self.si_code is not None:
            phrases.append(f"{self.signal or 'no signal'} {self.si_code or ''}".strip())
        return phrases
