# SPDX-License-Identifier: GPL-2.0-or-later
"""A canary's bytes in what an attacker got, where :meth:`signoff.observation.Canary.leaked` does not count them.

It counts runs of eight bytes as they stand. Here are fewer bytes, from two on, and bytes that came home in another
form. Each find states the chance that random bytes bring it about: places looked at, times 256 to the power of minus
the bytes found. A byte that makes up an eighth of the data or more is its filling, and no find.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

SURE = -16.0
"""Binary logarithm of the chance from which on a find is a leak: once in 65,536 observations."""
FEW = 8
"""Bytes beside the filling up to which all of them in the canary are no coincidence that a proof can live with."""
_FILLS = 8  # a byte value that has a share of 1/8 and more
_FILLED = 64  # bytes from which on data can have a filling
_SHARE = 5  # bits of chance: 32 forms are looked at beside the plain one
_INVERT = bytes(255 - value for value in range(256))
_MIRROR = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_NIBBLES = bytes(value >> 4 | (value & 15) << 4 for value in range(256))
_NOT_HEX = re.compile(rb"0x|\\x|[\s:,\-]+")
_HEX = re.compile(rb"[0-9a-fA-F]{6,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,}")


@dataclass(frozen=True, slots=True)
class Find:
    """Bytes of a canary.

    :ivar count: how many. :ivar form: in which form; empty: as they stand. :ivar log2: of the chance.
    :ivar alone: the attacker got no other bytes, but for the filling.
    """

    count: int
    form: str
    log2: float
    alone: bool = False

    @property
    def sure(self) -> bool:
        """Whether it is no coincidence. So little as three bytes comes home alone from no other place."""
        return self.log2 <= SURE or (self.alone and self.count > 2)

    def __str__(self) -> str:
        form = f" {self.form}" if self.form else ""
        bytes_ = "1 byte" if self.count == 1 else f"{self.count} bytes"
        return f"{bytes_} of the canary{form}; by chance once in {2 ** min(64.0, max(0.0, -self.log2)):,.0f}"


def find(canary: bytes, data: bytes) -> Find | None:
    """The find with the smallest chance, if there is one that is sure, or that is all that the attacker got."""
    filling = _filling(data)
    if all(value in filling for value in data):
        return None
    finds = [*_at_their_place(canary, data, filling), *_few(canary, data, filling)]
    seeds = {canary[at : at + 3]: at for at in range(len(canary) - 2)}
    finds += [run for form, other in _forms(data) if (run := _run(canary, seeds, other, form)) is not None]
    steps = bytes(a ^ b for a, b in pairwise(canary))
    moved = bytes(a ^ b for a, b in pairwise(data))
    if (run := _run(steps, {steps[at : at + 3]: at for at in range(len(steps) - 2)}, moved, "XORed")) is not None:
        finds.append(run)
    proofs = [find_ for find_ in finds if find_.sure or find_.alone]
    return min(proofs, key=lambda find_: find_.log2, default=None)


def _filling(data: bytes) -> frozenset[int]:
    if len(data) < _FILLED:
        return frozenset()
    return frozenset(value for value, count in Counter(data).items() if count * _FILLS >= len(data))


def _at_their_place(canary: bytes, data: bytes, filling: frozenset[int]) -> Iterator[Find]:
    """Bytes where they stand in the page: the longest run of them, and all of them, however they lie."""
    places = [at for at, value in enumerate(data) if value not in filling]
    meets = [at for at in places if data[at] == canary[at % len(canary)]]
    if not meets:
        return
    longest = run = 1
    for before, at in pairwise(meets):
        run = run + 1 if at == before + 1 else 1
        longest = max(longest, run)
    if longest > 1:
        yield Find(longest, "", math.log2(len(places) - longest + 1) - 8 * longest)
    if len(meets) > 2:
        yield Find(len(meets), "", _log2_of_combinations(len(places), len(meets)) - 8 * len(meets) + _SHARE)


def _log2_of_combinations(of: int, chosen: int) -> float:
    return (math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)) / math.log(2)


def _few(canary: bytes, data: bytes, filling: frozenset[int]) -> Iterator[Find]:
    """A few bytes, and no others beside the filling."""
    piece = bytes(value for value in data if value not in filling)
    if not 1 <= len(piece) <= FEW:
        return
    if len(piece) > 1 and piece in canary:
        yield Find(len(piece), "", math.log2(len(canary)) - 8 * len(piece), alone=True)
    elif len(piece) == 1 and any(data[at] == canary[at % len(canary)] for at in range(len(data)) if data[at] in piece):
        yield Find(1, "", -8.0, alone=True)


def _run(canary: bytes, seeds: dict[bytes, int], data: bytes, form: str) -> Find | None:
    """The longest run of three bytes and more that stands in both, wherever it does."""
    filling = _filling(data)
    at, longest, places = 0, 0, 0
    while at < len(data) - 2:
        if data[at] in filling:
            at += 1
            continue
        places += 1
        place = seeds.get(data[at : at + 3])
        if place is None:
            at += 1
            continue
        length = 3
        while at + length < len(data) and place + length < len(canary) and data[at + length] == canary[place + length]:
            length += 1
        while data[at + length - 1] in filling:
            length -= 1
        longest = max(longest, length)
        at += max(1, length - 2)
    if not longest:
        return None
    return Find(longest, form, math.log2(places * len(canary)) - 8 * longest + (_SHARE if form else 0))


def _forms(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The data, read as if it were the page in another form."""
    yield "", data
    yield "inverted", data.translate(_INVERT)
    yield "backwards", data[::-1]
    yield "inverted, backwards", data[::-1].translate(_INVERT)
    yield "with each byte's bits backwards", data.translate(_MIRROR)
    yield "with each byte's halves exchanged", data.translate(_NIBBLES)
    for width in (2, 4, 8):
        for phase in range(width):
            whole = data[phase : len(data) - (len(data) - phase) % width]
            words = [whole[at : at + width][::-1] for at in range(0, len(whole), width)]
            yield f"with each {width} bytes backwards", b"".join(words)
    yield "with a byte after each", data[::2]
    yield "with a byte before each", data[1::2]
    yield from _texts(data)


def _texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    for run in _HEX.findall(_NOT_HEX.sub(b"", data)):
        for phase in (0, 1):
            whole = run[phase : len(run) - (len(run) - phase) % 2]
            yield "as hexadecimal text", binascii.unhexlify(whole)
            yield "as hexadecimal text, backwards", binascii.unhexlify(whole)[::-1]
    for run in _BASE64.findall(data):
        for phase in range(4):
            whole = run[phase : len(run) - (len(run) - phase) % 4]
            yield "as base64 text", base64.b64decode(whole)
