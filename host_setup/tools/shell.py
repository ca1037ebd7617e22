# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof shell``: open a shell on a fresh host, or in one of its guests. The host ends with the shell.

With ``--attach`` it is the host that a run keeps, which stays when the shell ends.

From a terminal it is a login; what comes from a pipe, the shell there reads; words after ``--`` are a command. The exit
status is the shell's.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from common import foreground
from common.errors import MachineLostError, UserInputError
from common.names import path_text
from common.paths import parse_path
from common.program import end_with
from common.progress import Terminal
from host_setup.hosts import attach
from host_setup.hosts.guest_spec import GuestSpec, guests_for
from host_setup.kernel import series
from host_setup.tools.fresh_host import add_options, fresh_host, settings

TESTED = "the guest under test"
BROKEN = 255  # ssh's own status: the connection ended, often before anybody else noticed


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof shell", description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument(
        "--guest",
        nargs="?",
        const=TESTED,
        metavar="NAME",
        help=f"in a guest instead of on the host; default NAME: {TESTED}",
    )
    parser.add_argument(
        "--attach",
        nargs="?",
        const=Path("reports"),
        type=parse_path,
        metavar="REPORT",
        help="log in to the host that a run keeps (--keep-on-failure), not to a fresh one; default REPORT: any "
        "in reports",
    )
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="command to run instead of a login")
    return parser


def main(argv: list[str]) -> int:
    """Run it."""
    options = options_parser().parse_args(argv)
    if options.attach is not None:
        return _attach(options)
    guest = _guest(options)
    terminal = Terminal()
    with fresh_host(options, "shell", terminal) as fresh:
        host = fresh.host
        where = f"guest '{guest.name}'" if guest else "the host"
        terminal.say(
            f"A shell on {where}, series {fresh.kernel.series}, Linux {fresh.kernel.release}. Host and guests "
            "end with it."
        )
        terminal.say(f"For another shell, in another terminal: {host.login_command(guest)}")
        vitals = host.guest_vitals[guest.name] if guest else host.vitals  # a guest may be lost, who is on the host
        tty = ["-t"] if foreground.interactive() else []
        status = foreground.run(
            [*host.login_argv(guest), *tty, "--", *([shlex.join(options.command)] if options.command else [])],
            over=lambda: vitals.reason is not None,
        )
        if status == BROKEN:
            vitals.check_broken()
        if vitals.reason is not None:
            raise MachineLostError(f"the shell ended because its machine ended: {vitals.reason}")
    return status if status is not None and status >= 0 else 128 - (status or 0)


def _attach(options: argparse.Namespace) -> int:
    """A shell on a host that a run keeps; it stays when the shell ends."""
    kept_host = attach.find(options.attach)
    login = shlex.split(kept_host.login("" if options.guest == TESTED else options.guest))
    if options.guest is None and not kept_host.takes_command:
        if options.command:
            raise UserInputError("a host on a real machine takes a login, not a command", stage=attach.STAGE)
    else:
        login += ["-t"] if foreground.interactive() else []
        login += ["--", shlex.join(options.command)] if options.command else []
    status = foreground.run(login)
    return status if status is not None and status >= 0 else 128 - (status or 0)


def _guest(options: argparse.Namespace) -> GuestSpec | None:
    """The guest that is meant; None for the host. It is known before the host is made.

    :raises UserInputError: the host has no such guest.
    """
    name: str | None = options.guest
    if name is None:
        return None
    guests = guests_for(series=series.load(options.series).mode, mode=settings(options).mode)
    guest = guests[0] if name == TESTED else next((guest for guest in guests if guest.name == name), None)
    if guest is None:
        names = ", ".join(guest.name for guest in guests)
        raise UserInputError(f"the host has no guest {path_text(name)}", stage="--guest", hint=f"one of: {names}")
    return guest


if __name__ == "__main__":
    end_with(main)
