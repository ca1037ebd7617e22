# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages that Bochs needs: installed by the set-up, as all others, where Bochs is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from common.commands import output
from common.errors import CommandError, SetupError
from common.paths import PROJECT
from common.progress import Terminal
from host_setup.this_machine import BOCHS_LIST

BOOTSTRAP = PROJECT / "host_setup" / "bootstrap.sh"
_SAYS, _NEXT = "set-up: ", "  next: "


def install(missing: Sequence[str], terminal: Terminal) -> None:
    """Let the set-up install the packages that this machine lacks; that needs root or sudo.

    :param missing: packages, of which none may be.
    :raises SetupError: it cannot; says why, and what the next step is.
    """
    if not missing:
        return
    with terminal.step(f"Debian packages of Bochs: {' '.join(missing)}"):
        try:
            output(["sh", str(BOOTSTRAP), "packages", str(BOCHS_LIST)], stage="packages")
        except CommandError as error:
            raise _as_set_up_says(error.tail) from error


def _as_set_up_says(text: str) -> SetupError:
    """What the set-up has written, as an error of ours.

    :param text: its last line begins with "next".
    """
    message, _, hint = text.strip().rpartition(f"\n{_NEXT}")
    lines = (message or hint).splitlines()
    return SetupError(
        "\n".join(line.removeprefix(_SAYS) for line in lines), stage="--emulator", hint=hint if message else ""
    )
