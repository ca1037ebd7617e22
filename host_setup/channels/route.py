# SPDX-License-Identifier: GPL-2.0-or-later
"""The route to a machine's SSH server, as the user's own ``ssh`` takes it, with ~/.ssh/config, jumps and proxies.

``ssh -G`` (ssh(1)) says what applies to a machine, so that no word of ssh_config(5) is read otherwise than there.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from common.errors import ChannelError, UserInputError
from common.paths import expand_home
from common.waiting import Deadline

STAGE = "login"
ASK = 20.0  # seconds for ssh to read its configuration, in which "Match exec" runs programs
LAST = 3  # lines of what a proxy said: the very last one of ssh's is often no reason
END = 2.0  # seconds for a proxy to end once its stream has
_TOKEN = re.compile(r"%(.)")
_PORT = re.compile(r":\d+$")
_NOBODY = "No user exists for uid"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a machine's SSH server is, and how to get there.

    :ivar proxy: a shell's command whose input and output are the stream; empty: TCP. :ivar through: what it goes
        through, in a person's words. :ivar agent: socket of the agent; empty: the environment's. :ivar certificates:
        files that may hold certificates for our key.
    """

    host: str
    port: int
    proxy: str = ""
    through: str = ""
    agent: str = ""
    certificates: tuple[Path, ...] = ()


def find(options: Sequence[str], user: str, host: str, port: int | None) -> Route:
    """What ``ssh`` would do.

    :param options: of ssh, for instance ``-F FILE``. :param host: a name, an address, or an alias of its configuration.
    :param port: None: whatever the configuration says, or else 22.
    :raises UserInputError: ssh does not take its configuration, or its jumps go in a circle.
    """
    named = ["-p", str(port)] if port else []
    settings = None if shutil.which("ssh") is None else _ask([*options, "-G", "-l", user, *named, "--", host], host)
    if settings is None:
        return Route(host, port or 22)
    _require_a_way_out(options, host, settings)
    return _route(options, user, host, settings)


def _require_a_way_out(options: Sequence[str], alias: str, settings: Mapping[str, list[str]]) -> None:
    """Refuse jumps that go in a circle: ssh would start one more ssh for each, without an end.

    :raises UserInputError: they do.
    """
    way, current = [alias], settings
    while jump := current.get("proxyjump", ["none"])[0].partition(",")[0].removeprefix("none"):
        url = _url(jump)
        way.append(_PORT.sub("", urlsplit(url).netloc.rpartition("@")[2]))
        if way[-1] in way[:-1]:
            raise UserInputError(
                f"the jumps to {alias} go in a circle: {', '.join(way)}",
                stage=STAGE,
                hint="see ProxyJump of these hosts in the configuration of ssh",
            )
        current = _ask([*options, "-G", "--", url], jump) or {}


def _url(jump: str) -> str:
    return jump if jump.startswith("ssh://") else f"ssh://{jump}"


def _ask(words: Sequence[str], host: str) -> dict[str, list[str]] | None:
    """What ssh says of its configuration for a host; None for a user who has none, nor a name.

    :raises UserInputError: ssh does not take it.
    """
    argv = ["ssh", *words]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ASK, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserInputError(
            f"ssh did not report its configuration for {host} within {ASK:g} s",
            stage=STAGE,
            hint=f"try it by hand: {shlex.join(argv)}",
        ) from error
    if _NOBODY in done.stderr:
        return None  # whoever has no name on this computer has no configuration either
    if done.returncode != 0:
        complaint = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UserInputError(
            f"ssh rejects its configuration for {host}: {complaint[0]}",
            stage=STAGE,
            hint=f"try it by hand: {shlex.join(argv)}",
        )
    settings: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        settings.setdefault(name, []).append(value)
    return settings


def _route(options: Sequence[str], user: str, alias: str, settings: Mapping[str, list[str]]) -> Route:
    def setting(name: str) -> str:
        value = settings.get(name, [""])[0]
        return "" if value == "none" else value

    host, port = setting("hostname") or alias, int(setting("port") or 22)
    jump, command = setting("proxyjump"), setting("proxycommand")
    if jump:
        *before, last = jump.split(",")
        through = ["-J", ",".join(before)] if before else []
        # As ssh itself does it, but without a question that nobody would answer.
        target = f"[{host}]:{port}"
        command = shlex.join(["ssh", *options, "-o", "BatchMode=yes", *through, "-W", target, _url(last)])
    elif command:
        tokens = {"%": "%", "h": host, "n": alias, "p": str(port), "r": user}
        command = _TOKEN.sub(lambda match: tokens.get(match[1], match[0]), command)
    agent = setting("identityagent")
    return Route(
        host,
        port,
        proxy=command,
        through=jump or command,
        agent="" if agent == "SSH_AUTH_SOCK" else str(expand_home(agent)) if agent else "",
        certificates=tuple(expand_home(path) for path in settings.get("certificatefile", []) if path != "none"),
    )


class Stream:
    """A stream to a machine's SSH server, with the proxy that makes it, if there is one.

    :param seconds: for a TCP connection. :raises ChannelError: nothing answers.
    """

    def __init__(self, name: str, route: Route, seconds: float) -> None:
        self._name = name
        self._through = route.through
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        if route.proxy:
            self.sock = self._start(route.proxy)
            return
        try:
            self.sock = socket.create_connection((route.host, route.port), timeout=seconds)
        except (OSError, UnicodeError) as error:  # the latter of a name that none in the DNS could have
            raise ChannelError(f"{name} does not answer: {error}") from error

    def _start(self, command: str) -> socket.socket:
        # It needs no death signal, which any thread's end would set off: it ends with its input, as when we die.
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  it ends with the stream
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,
            )
        return ours

    def explain(self) -> str:
        """What a proxy that failed said; empty if there is none, or it goes on."""
        if self._process is None or self._said is None:
            return ""
        deadline = Deadline(END)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(deadline.seconds_left())
        if self._process.poll() is None:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        complaint = "; ".join(line.strip() for line in lines[-LAST:]) or f"status {self._process.returncode}"
        return f"the way through {self._through} failed: {complaint}"

    def close(self) -> None:
        """End it."""
        self.sock.close()
        if self._process is not None:
            try:
                self._process.wait(END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._said is not None:
            self._said.close()
