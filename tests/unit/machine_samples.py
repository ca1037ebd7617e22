# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are none, for the tests of what is done with machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import ChannelError
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.channels.ssh import Completed
from host_setup.emulated.host import EmulatedSpec
from host_setup.hosts.guest_spec import PLAIN, GuestSpec


def spec(folder: Path = Path("/cache"), guests: tuple[GuestSpec, ...] = (PLAIN,)) -> EmulatedSpec:
    """An emulated host to be."""
    return EmulatedSpec(
        kernel_image=folder / "bzImage",
        kernel_key="kernel",
        rootfs=RootFs(folder / "rootfs", "root"),
        payload=Payload(folder / "payload.erofs", "payload"),
        keys=Keys(folder / "keys"),
        guests=guests,
    )


def bzimage() -> bytes:
    """A kernel's image whose code is its last word: two sectors lie before it, and the header ends at 0x26c."""
    head = bytearray(2 * 512)
    head[0x1F1], head[0x201], head[0x202:0x206], head[0x211] = 1, 0x6A, b"HdrS", 0x80
    return bytes(head) + b"code"


class FakeSsh:
    """A session that gives prepared texts, by the command's words; an exception is raised."""

    def __init__(self, **texts: str | bytes | Exception) -> None:
        self.texts = texts
        self.ran: list[str] = []
        self.closed = 0

    def run(self, argv: Sequence[str], *, seconds: float, stdin: bytes = b"") -> Completed:  # noqa: ARG002
        command = " ".join(argv)
        self.ran.append(command)
        for word, text in self.texts.items():
            if word in command.replace("-", "_"):
                if isinstance(text, Exception):
                    raise text
                return Completed(tuple(argv), 0, text if isinstance(text, bytes) else text.encode(), b"")
        raise ChannelError(f"the test prepared no answer to {command}")

    def close(self) -> None:
        self.closed += 1
