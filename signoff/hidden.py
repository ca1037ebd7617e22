# SPDX-License-Identifier: GPL-2.0-or-later
"""A canary's bytes in what an attacker got, where :meth:`signoff.observation.Canary.leaked` does not count them.

It counts runs of eight bytes as they stand. Here are fewer bytes, from two on, and bytes that came home in another
form. Each find states the chance that random bytes bring it about: places looked at, times 256 to the power of minus
the bytes found. A byte that makes up an eighth of the data or more is its filling, and no find.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

SURE = -16.0
"""Binary logarithm of the chance from which on a find is a leak: once in 65,536 observations."""
FEW = 8
"""Bytes beside the filling up to which all of them in the canary are no coincidence that a proof can live with."""
_FILLS = 8  # a byte value that has a share of 1/8 and more
_FILLED = 64  # bytes from which on data can have a filling
_SHARE = 8  # bits of chance: not more than 256 forms are looked at beside the plain one
_STRIDES = (*range(2, 9), 16, 32, 64)
_SEVERAL = 3  # numbers of a text that make words of memory
_SCATTERED = -17.0
"""Of two words of four bytes, anywhere in a page: half of (4,096 places times 4,096 words of 2**32) squared."""
_INVERT = bytes(255 - value for value in range(256))
_MIRROR = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_NIBBLES = bytes(value >> 4 | (value & 15) << 4 for value in range(256))
_NOT_HEX = re.compile(rb"0x|\\x|[\s:,\-]+")
_NO_DIGITS = re.compile(rb"0x|[^0-9a-fA-F]+")
_HEX = re.compile(rb"[0-9a-fA-F]{6,}")
_TURNS = {bits: bytes((value << bits | value >> 8 - bits) & 255 for value in range(256)) for bits in (1, 2, 3, 5, 6, 7)}
_BASES: tuple[tuple[str, re.Pattern[bytes], int, Callable[[bytes], bytes]], ...] = (
    ("base64", re.compile(rb"[A-Za-z0-9+/]{8,}"), 4, base64.b64decode),
    ("base32", re.compile(rb"[A-Z2-7]{16,}"), 8, base64.b32decode),
    ("base32", re.compile(rb"[a-z2-7]{16,}"), 8, lambda text: base64.b32decode(text, casefold=True)),
    ("base85", re.compile(rb"[!-z~{|}]{10,}"), 5, base64.b85decode),
)
"""A text's alphabet, the letters of its least piece, what decodes it."""
_COUNTED = (
    ("hexadecimal", re.compile(rb"\b(?:0x)?[0-9a-fA-F]{1,16}\b"), 16),
    ("decimal", re.compile(rb"-?\b[0-9]{1,20}\b"), 10),
)
_SMALL = (("decimal", re.compile(rb"[0-9]+"), 10), ("octal", re.compile(rb"[0-7]{3}"), 8))


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
    if len(set(data)) == 2:
        seeds = _seeds(canary)
        bits = (run for other in _bits(data) if (run := _run(canary, seeds, other, "as bits")) is not None and run.sure)
        if (found := min(bits, key=lambda find_: find_.log2, default=None)) is not None:
            return found
    if all(value in filling for value in data):
        return None
    finds = [*_at_their_place(canary, data, filling), *_few(canary, data, filling)]
    seeds = _seeds(canary)
    finds += [run for form, other in _forms(data) if (run := _run(canary, seeds, other, form)) is not None]
    if not any(find_.sure for find_ in finds):
        changed = ((form, page, _run(page, _seeds(page), other, form)) for form, page, other in _both(canary, data))
        finds += [run for _, _, run in changed if run is not None]
        finds += _out_of_order(canary, data, filling)
    proofs = [find_ for find_ in finds if find_.sure or find_.alone]
    return min(proofs, key=lambda find_: find_.log2, default=None)


def _seeds(page: bytes) -> dict[bytes, int]:
    """Where each three bytes of a page stand."""
    return {page[at : at + 3]: at for at in range(len(page) - 2)}


def _both(canary: bytes, data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """The canary and the data, both changed in a way in which a form that hides all of it does not matter."""

    def steps(page: bytes, apart: int) -> bytes:
        return bytes(a ^ b for a, b in zip(page, page[apart:], strict=False))

    def rises(page: bytes) -> bytes:
        return bytes((b - a) % 256 for a, b in pairwise(page))

    for apart in (1, 2, 4, 8):
        yield f"XORed with {apart} bytes again and again", steps(canary, apart), steps(data, apart)
    yield "with a number added to each", rises(canary), rises(data)
    for stride in _STRIDES:
        yield f"one byte of each {stride}", b"".join(canary[phase::stride] for phase in range(stride)), data


def _out_of_order(canary: bytes, data: bytes, filling: frozenset[int]) -> Iterator[Find]:
    """All of a page's bytes, or words of it, wherever they stand."""
    if len(data) == len(canary) and sorted(data) == sorted(canary):
        yield Find(len(data), "in another order", -64.0)
    words = {canary[at : at + 4] for at in range(len(canary) - 3)}
    count = at = 0
    while at + 4 <= len(data) <= len(canary):
        word = data[at : at + 4]
        found = word in words and filling.isdisjoint(word)
        count, at = count + found, at + (4 if found else 1)
    if count > 1:
        yield Find(4 * count, "as words in another order", _SCATTERED)


def _bits(data: bytes) -> Iterator[bytes]:
    """Data of two values: each may be the one or the zero of a bit, the first or the last of a byte."""
    ones = [int(value == max(data)) for value in data]
    for flip in (0, 1):
        for phase in range(8):
            groups = [ones[at : at + 8] for at in range(phase, len(ones) - 7, 8)]
            high = bytes(int("".join(str(bit ^ flip) for bit in group), 2) for group in groups)
            for order in (high, high.translate(_MIRROR)):
                yield order
                yield order[::-1]


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
    for bits, turned in _TURNS.items():
        yield f"with each byte's bits turned by {bits}", data.translate(turned)
    for width in (2, 4, 8):
        for phase in range(width):
            yield f"one of each {width} bytes", data[phase::width]
    for order in ("big", "little"):
        for bits in range(1, 8):
            yield f"shifted by {bits} bits", (int.from_bytes(data, order) << bits).to_bytes(len(data) + 1, order)
    if len(data) > FEW and max(data) < 16:
        for phase in (0, 1):
            halves = list(zip(data[phase::2], data[phase + 1 :: 2], strict=False))
            yield "as halves of bytes", bytes(16 * first + second for first, second in halves)
            yield "as halves of bytes, the lower first", bytes(16 * second + first for first, second in halves)
    for form, content in _texts(data):
        yield form, content
        if content.isascii() and len(content) > 2 * FEW:
            yield from _texts(content)  # a text of a text


def _texts(text: bytes) -> Iterator[tuple[str, bytes]]:
    """What a text stands for, also one of letters of two bytes."""
    data = text.replace(b"\0", b"")
    for run in (run for apart in (_NOT_HEX, _NO_DIGITS) for run in _HEX.findall(apart.sub(b"", data))):
        for phase in (0, 1):
            whole = run[phase : len(run) - (len(run) - phase) % 2]
            yield "as hexadecimal text", binascii.unhexlify(whole)
            yield "as hexadecimal text, backwards", binascii.unhexlify(whole)[::-1]
    for name, alphabet, width, decode in _BASES:
        for run in alphabet.findall(data):
            for phase in range(width):
                with contextlib.suppress(ValueError):  # not of that base
                    yield f"as {name} text", decode(run[phase : len(run) - (len(run) - phase) % width])
    for name, pattern, base in _COUNTED:
        numbers = [int(word, base) for word in pattern.findall(data)]
        for width in (2, 4, 8) if len(numbers) >= _SEVERAL else ():
            of_width = [number for number in numbers if -(256**width) // 2 <= number < 256**width]
            yield (
                f"as {name} words of {width} bytes",
                b"".join((number % 256**width).to_bytes(width, "little") for number in of_width),
            )
    for name, pattern, base in _SMALL:
        values = [int(word, base) for word in pattern.findall(data) if len(word) <= 3]
        yield f"as {name} numbers", bytes(value for value in values if value < 256)
