# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that looks like a QEMU from outside: console on standard output, QMP and heartbeat on sockets.

Started as ``fake_qemu.py SCRIPT [QEMU's arguments]``. SCRIPT is JSON: ``console`` (lines, with ``end`` behind each),
``stderr``, ``beats`` (lines), ``qmp`` (whether it greets at all), and ``then``: ``linger``, ``exit N`` or ``signal N``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

_spec = importlib.util.spec_from_file_location("fake_qmp", Path(__file__).with_name("fake_qmp.py"))
assert _spec and _spec.loader
fake_qmp = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_qmp)

ANSWERS = {
    "query-status": lambda _: {"return": {"status": "running"}},
    "human-monitor-command": lambda _: {"return": "CPU#0\r\nRAX=1 RBX=2\r\nRIP=ffffffff81000000 RFL=2\r\n"},
}


def _socket(name: str) -> socket.socket:
    """The socket that the argument ``-chardev socket,id=NAME,fd=N`` hands over."""
    start = f"socket,id={name},fd="
    return socket.socket(fileno=next(int(a.removeprefix(start)) for a in sys.argv if a.startswith(start)))


def main() -> None:
    script = json.loads(sys.argv[1])
    qmp, beat = _socket("qmp"), _socket("beat")
    sys.stderr.write(script.get("stderr", ""))
    sys.stderr.flush()
    for line in script.get("beats", []):
        beat.sendall(f"{line}\n".encode())
    console = script.get("end", "\r\n").join([*script.get("console", []), ""])
    sys.stdout.buffer.write(console.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    if script.get("qmp", True):
        threading.Thread(target=fake_qmp.serve, args=(qmp, ANSWERS), kwargs={"files": []}, daemon=True).start()
    then, _, number = script.get("then", "linger").partition(" ")
    if then == "exit":
        os._exit(int(number))
    if then == "signal":
        os.kill(os.getpid(), int(number))
    signal.pause()


main()
