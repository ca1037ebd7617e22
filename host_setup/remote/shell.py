# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands through whatever login shell a user has on a real machine, and through sudo, and who refused if one did.

sshd gives a command to the user's login shell, which may be csh or fish, greet on standard output, or run no command at
all. So it is told one line in which no shell finds anything special; each step marks both streams as it is passed.
"""

from __future__ import annotations

import base64
import shlex
import textwrap
from collections.abc import Sequence

from common.errors import AccessError, ChannelError
from host_setup.channels.ssh import NO_STATUS, Completed

SUDO = ("sudo", "-n")
_IN, _ROOT = b"\nsealproof: in\n", b"\nsealproof: root\n"
_WORD = 900  # bytes: csh takes words of up to 1024
_TO_SH = """/bin/sh -c 'eval "$(echo "$@" | tr -d " " | base64 -d)"' sh """


def line(argv: Sequence[str], *, sudo: bool) -> str:
    """What the login shell is told, so that a command runs as root."""
    begun = f"{_mark(_ROOT)} && exec {shlex.join(argv)}"
    script = f"{_mark(_IN)} && exec {shlex.join([*SUDO, 'sh', '-c', begun])}" if sudo else f"{_mark(_IN)} && {begun}"
    return _TO_SH + " ".join(textwrap.wrap(base64.b64encode(script.encode()).decode(), _WORD))


def result(argv: Sequence[str], done: Completed, name: str, user: str) -> Completed:
    """What the command itself said.

    :param done: of the line. :param name: the machine's.
    :raises AccessError: it did not run: the login shell, or sudo, did not let it. :raises ChannelError: the session
        ended before it could.
    """
    before, inside, rest = done.stdout.partition(_IN)
    _, _, rest_of_errors = done.stderr.partition(_IN)
    if not inside:
        if done.status == NO_STATUS:
            raise ChannelError(f"{name}: the session ended before the command began")
        raise AccessError(
            f"{name}: the login shell of {user} does not run our command: {_words(before.strip() or done.stderr)}",
            hint=f"give {user} there a shell that does (chsh -s /bin/sh), and our key no command= in authorized_keys",
        )
    _, root, output = rest.partition(_ROOT)
    before_root, _, errors = rest_of_errors.partition(_ROOT)
    if not root:
        if done.status == NO_STATUS:
            raise ChannelError(f"{name}: the session ended before the command began")
        raise AccessError(
            f"{name}: {user} cannot run a command as root: {_words(before_root)}",
            hint=f"there, as root: echo '{user} ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/sealproof; "
            "or have root log in",
        )
    return Completed(tuple(argv), done.status, output, errors)


def _mark(mark: bytes) -> str:
    words = f"printf '\\n{mark.decode().strip()}\\n'"
    return f"{words} && {words} >&2"


def _words(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it says nothing"
