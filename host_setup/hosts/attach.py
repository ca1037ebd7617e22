# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that a run keeps after a failure, for those who attach to it from another terminal.

``kept.json`` in the run's folder for hosts has the commands that log in. It is there as long as the host is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import UserInputError
from common.names import path_text
from host_setup.hosts.base import Host

ADDRESS_FILE = "kept.json"
STAGE = "--attach"


class KeptHost(BaseModel):
    """A host that is kept.

    :ivar pid: of the run. :ivar host: logs in to the host, a line of shell. :ivar guests: likewise, by name.
    :ivar takes_command: a command may follow the host's line; on a real machine it has one, which enters our system.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    host: str
    guests: dict[str, str]
    takes_command: bool

    def login(self, guest: str | None) -> str:
        """The line of shell that logs in.

        :param guest: its name; None: the host; empty: the guest under test. :raises UserInputError: there is none.
        """
        if guest is None:
            return self.host
        command = next(iter(self.guests.values()), None) if not guest else self.guests.get(guest)
        if command is None:
            raise UserInputError(
                f"the host has no guest {path_text(guest)}", stage="--guest", hint=f"one of: {', '.join(self.guests)}"
            )
        return command


@contextmanager
def keep_address(host: Host, folder: Path) -> Iterator[None]:
    """Say in a run's folder for hosts how to log in, as long as the context lasts."""
    file = folder / ADDRESS_FILE
    guests = {guest.name: host.login_command(guest) for guest in host.guest_specs}
    takes_command = host.qemu is not None
    entry = KeptHost(pid=os.getpid(), host=host.login_command(), guests=guests, takes_command=takes_command)
    folder.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(entry.model_dump_json(indent=1), encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def find(report: Path) -> KeptHost:
    """The host that a run keeps.

    :param report: the run's folder; or a folder of such, whose newest kept host is meant.
    :raises UserInputError: it keeps none.
    """
    files = [
        file for file in (report / "hosts" / ADDRESS_FILE, *report.glob(f"*/hosts/{ADDRESS_FILE}")) if file.is_file()
    ]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            entry = KeptHost.model_validate_json(file.read_bytes())
            os.kill(entry.pid, 0)
        except ProcessLookupError:  # it was killed
            continue
        except PermissionError:
            return entry
        except (OSError, ValidationError) as error:
            raise UserInputError(f"{path_text(file)} cannot be used: {error}", stage=STAGE) from error
        return entry
    raise UserInputError(
        f"no run in {path_text(report)} keeps a host running",
        stage=STAGE,
        hint="run the claim again with --keep-on-failure, and leave it waiting: ./sealproof signoff -k CLAIM",
    )
