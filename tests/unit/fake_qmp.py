# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU side of a QMP session. Standard library alone: the fake QEMU of test_qemu.py loads it by its path."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 9}, "package": ""}, "capabilities": []}}

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""From a command's arguments to the reply's ``return`` or ``error``; None: silence."""


def line(message: Mapping[str, Any]) -> bytes:
    """A message as it goes over the wire."""
    return json.dumps(message).encode() + b"\r\n"


def serve(sock: socket.socket, answers: Mapping[str, Answer], *, before_reply: bytes = b"", files: list[int]) -> None:
    """Greet, and answer each command until the other side ends.

    :param files: gets the descriptors that the other side hands over.
    """
    sock.sendall(line(GREETING))
    for request in _commands(sock, files):
        command = request["execute"]
        if command == "qmp_capabilities":  # the only one that may come without an id, and before which no event comes
            sock.sendall(line({"return": {}, **{key: request[key] for key in request if key == "id"}}))
            continue
        if command in answers:
            reply = answers[command](request.get("arguments", {}))
        else:
            reply = {"error": {"class": "CommandNotFound", "desc": f"The command {command} has not been found"}}
        if reply is not None:
            sock.sendall(before_reply + line({**reply, "id": request["id"]}))


def _commands(sock: socket.socket, files: list[int]) -> Iterator[dict[str, Any]]:
    """The commands, which come as JSON without anything between them."""
    text = ""
    while True:
        data, new, _, _ = socket.recv_fds(sock, 1 << 16, 1)
        if not data:
            return
        files.extend(new)
        text += data.decode()
        while text.strip():
            try:
                command, end = json.JSONDecoder().raw_decode(text.lstrip())
            except ValueError:
                break
            text = text.lstrip()[end:]
            yield command
