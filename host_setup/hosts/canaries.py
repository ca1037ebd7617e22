# SPDX-License-Identifier: GPL-2.0-or-later
"""The canaries of a guest: its program ``canary`` plants them, shares them and takes them back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from common.errors import HarmError, MachineError
from common.threads import workers
from host_setup.channels.line_server import PATIENCE, LineServer
from host_setup.hosts.guest_memory import PAGE, Address, GuestMemory

# What a guest asks its host for, as guest_images/programs/canary.c names it. A refusal is no fault of the harness.
REQUESTS = ("make private ", "share ")
_SLOWNESS = 100  # of our seconds for one of a guest's that is stopped again and again, on a busy machine


@dataclass(frozen=True, slots=True)
class Planted:
    """A canary as the guest told it.

    :ivar kind: user, kernel or page-cache. :ivar set: subject or control.
    :ivar state: what the guest's kernel says of its page: plain, private or shared.
    :ivar key: what the guest made the content of.
    """

    kind: str
    set: str
    state: str
    address: Address
    content: bytes
    key: bytes = field(default=b"", compare=False)

    def __repr__(self) -> str:
        """Without the content: a canary appears in no log before it leaked."""
        return f"Planted({self.kind}, {self.set}, {self.state}, gpa={self.address.gpa:#x})"


def canary_of(key: bytes) -> bytes:
    """The canary that a guest makes of a random key of 32 bytes: what ChaCha20 encrypts a page of zeros to.

    So 32 bytes cross the network instead of 4,096: half of an attack's time went there.
    """
    return Cipher(ChaCha20(key, nonce=bytes(16)), mode=None).encryptor().update(bytes(PAGE))


def _with(content: bytes, changed: Sequence[tuple[int, str]]) -> bytes:
    patched = bytearray(content)
    for at, digits in changed:
        patched[at : at + len(digits) // 2] = bytes.fromhex(digits)
    return bytes(patched)


class Canaries:
    """The canaries of a guest.

    :param program: ``canary``, in the guest. :param memory: tells where the pages lie.
    """

    def __init__(self, program: LineServer, memory: GuestMemory) -> None:
        self._program = program
        self._memory = memory

    def is_protected(self) -> bool:
        """Whether the guest opted in, as its own kernel says."""
        return bool(self._program.ask("protected")["protected"])

    def plant(self, seed: bytes, *, again: bool = False) -> list[Planted]:
        """Let the guest make fresh random canaries, one page each, and say where they are.

        :param seed: 32 to 512 random bytes, mixed into the guest's random number generator: after a restore its state
            is the snapshot's, and without this every restored guest would make the same canaries.
        :param again: in the pages where the last ones are, if there are any; else in other ones.
        """
        canaries = self._program.ask(f"plant {seed.hex()}{' again' if again else ''}")["canaries"]
        return [
            Planted(c["kind"], c["set"], c["state"], address, canary_of(key := bytes.fromhex(c["key"])), key)
            for c, address in zip(canaries, self._memory.addresses([c["gpa"] for c in canaries]), strict=True)
        ]

    def read(self, planted: Sequence[Planted]) -> list[bytes]:
        """The pages of canaries as the guest itself sees them now.

        :raises MachineError: a page is no longer where it was. :raises HarmError: or as private or shared as it was.
        """
        replies = self._program.ask_all(*(f"read {canary.kind} {canary.set}" for canary in planted))
        for canary, reply in zip(planted, replies, strict=True):
            if reply["moved"] or reply["gpa"] != canary.address.gpa:
                raise MachineError(f"the guest moved its {canary.kind} canary, so the probes aimed at another page")
            if reply["state"] != canary.state:
                raise HarmError(f"the guest's {canary.kind} page was {canary.state}, and is {reply['state']} now")
        return [_with(canary.content, reply["changed"]) for canary, reply in zip(planted, replies, strict=True)]

    def share(self, planted: Planted) -> str:
        """Share a canary's page with the host, its content with it; what it is then: shared, or plain as ever."""
        return str(self._program.ask(f"share {planted.kind} {planted.set}")["state"])

    def take_back(self, planted: Planted) -> str:
        """Make a canary's page private again; what it is then: private, or plain as ever.

        :raises HarmError: the host refuses.
        """
        return str(self._program.ask(f"unshare {planted.kind} {planted.set}")["state"])

    @contextlib.contextmanager
    def holding(self, planted: Planted, *, seconds: float) -> Iterator[Future[dict[str, Any]]]:
        """Let the guest's program keep the first 320 bytes of a user canary in registers while the context lasts.

        The first 64 are in r8 to r15, the others in xmm0 to xmm15, and a breakpoint of its own watches the page.

        :returns: in the end: ``kept``, whether they stayed there; ``address``, where it has the page, and ``watched``,
            whether it could have the breakpoint.
        :param seconds: for which it does so, at the most; the guest's own time, which stands still while it is stopped.
        """
        with workers(1) as asker:
            reply: Future[dict[str, Any]] = asker.submit(
                self._program.ask,
                f"hold {planted.set} {round(seconds * 1000)}",
                seconds=PATIENCE + _SLOWNESS * seconds,
            )
            yield reply
            reply.result()
