# SPDX-License-Identifier: GPL-2.0-or-later
"""A canary's bytes in what an attacker got: as they stand, few of them, or in another form.

A run of eight bytes is counted. Anything less, or in another form, is a leak if chance brings it about once in 65,536
observations or less often; a byte value that makes up an eighth of the data is its filling and tells nothing.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

PAGE = 4096
SURE = 16.0  # bits
FEW = 8  # bytes
_BLOCK = 8
_FORMS = 5.0  # bits: of 32 forms that are tried
_TABLES = {
    "inverted": bytes(value ^ 0xFF for value in range(256)),
    "with each byte's bits backwards": bytes(
        sum((value >> bit & 1) << 7 - bit for bit in range(8)) for value in range(256)
    ),
    "with each byte's halves exchanged": bytes((value * 257 >> 4) & 0xFF for value in range(256)),
}


def canary_of(key: bytes) -> bytes:
    """What a guest makes of its key: a page of zeros, encrypted by ChaCha20 with a nonce of zeros."""
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(PAGE))


def counted(canary: bytes, data: bytes, cuts: Iterable[int] = ()) -> int:
    """Bytes of the canary in the data: runs of eight and more, none across a cut; or all of four to seven."""
    if 4 <= len(data) < _BLOCK:
        return len(data) if data in canary else 0
    if data == canary:
        return PAGE
    if len(set(data)) <= 1:
        return 0  # a fill
    covered: set[int] = set()
    begin = 0
    for end in (*cuts, len(data)):
        piece = data[begin:end]
        at = 0
        while at + _BLOCK <= len(piece):
            there = canary.find(piece[at : at + _BLOCK]) if _various(piece, at) else -1
            if there < 0:
                at += 1
                continue
            length = _BLOCK
            while at + length < len(piece) and there + length < PAGE and piece[at + length] == canary[there + length]:
                length += 1
            covered.update(range(there, there + length))
            at += length - _BLOCK + 1
        begin = end
    return len(covered)


def _various(piece: bytes, at: int) -> bool:
    """Whether eight bytes may be a canary's: eight alike are none."""
    return piece.count(piece[at], at, at + _BLOCK) < _BLOCK


def hidden(canary: bytes, data: bytes) -> tuple[bool, str]:
    """Whether the data discloses the canary in another way, and in which words; empty if nothing hints at it.

    What hints and is not sure is neither a leak nor a proof.
    """
    filling = _filling(data)
    told = [at for at, value in enumerate(data) if value not in filling]
    if not told:
        return False, ""
    meets = [at for at in told if data[at] == canary[at % PAGE]]
    if meets and (count := _longest(meets)) > 1 and 8 * count - math.log2(len(told) - count + 1) >= SURE:
        return True, f"{count} bytes of the canary at their place"
    if len(meets) > 2 and 8 * len(meets) - math.log2(math.comb(len(told), len(meets))) - _FORMS >= SURE:
        return True, f"{len(meets)} bytes of the canary at their places"
    few = bytes(data[at] for at in told)
    alone = 1 < len(few) <= FEW and few in canary
    if alone and len(few) > 2:
        return True, f"{len(few)} bytes of the canary and no others"
    grams = {canary[at : at + 3]: at for at in range(PAGE - 2)}
    # The longest: a page in another form may have a few bytes as they stand by chance.
    runs = [(_run(canary, grams, other, _FORMS if form else 0.0), form) for form, other in _forms(data)]
    count, form = max(runs, key=lambda run: run[0])
    if count > 0:
        return True, f"{count} bytes of the canary {form}".rstrip()
    steps, moves = _steps(canary), _steps(data)
    if (count := _run(steps, {steps[at : at + 3]: at for at in range(len(steps) - 2)}, moves, _FORMS)) > 0:
        return True, f"{count} bytes of the canary XORed with a byte"
    if alone or (len(few) == 1 and meets):
        return False, f"{len(few)} bytes that may be the canary's"
    return False, ""


def _filling(data: bytes) -> set[int]:
    if len(data) < 64:
        return set()
    return {value for value in set(data) if data.count(value) * 8 >= len(data)}


def _longest(places: list[int]) -> int:
    best = run = 1
    for number in range(1, len(places)):
        run = run + 1 if places[number] - places[number - 1] == 1 else 1
        best = max(best, run)
    return best


def _run(page: bytes, grams: dict[bytes, int], data: bytes, discount: float) -> int:
    """The longest run that the data and the page have in common, if it is no coincidence; else 0."""
    filling = _filling(data)
    longest = places = at = 0
    while at <= len(data) - 3:
        if data[at] in filling:
            at += 1
            continue
        places += 1
        there = grams.get(data[at : at + 3], -1)
        length = 0
        if there >= 0:
            length = 3
            while data[at + length : at + length + 1] == page[there + length : there + length + 1] != b"":
                length += 1
            while data[at + length - 1] in filling:
                length -= 1
        longest = max(longest, length)
        at += max(1, length - 2)
    return longest if longest and 8 * longest - math.log2(places * len(page)) - discount >= SURE else 0


def _steps(data: bytes) -> bytes:
    return bytes(data[at] ^ data[at + 1] for at in range(len(data) - 1))


def _forms(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "", data
    yield "backwards", data[::-1]
    for name, table in _TABLES.items():
        yield name, data.translate(table)
    yield "inverted and backwards", data[::-1].translate(_TABLES["inverted"])
    for width in (2, 4, 8):
        for first in range(width):
            count = (len(data) - first) // width
            words = (data[first + n * width : first + (n + 1) * width][::-1] for n in range(count))
            yield f"with each {width} bytes backwards", b"".join(words)
    yield "with a byte between each two", data[::2]
    yield "with a byte between each two", data[1::2]
    for text in re.findall(rb"[0-9a-fA-F]{6,}", re.sub(rb"0x|\\x|[\s:,\-]+", b"", data)):
        for first in (0, 1):
            even = text[first : first + (len(text) - first) // 2 * 2]
            yield "as hexadecimal digits", bytes.fromhex(even.decode())
            yield "as hexadecimal digits, backwards", bytes.fromhex(even.decode())[::-1]
    for text in re.findall(rb"[A-Za-z0-9+/]{8,}", data):
        for first in range(4):
            yield "as base64", base64.b64decode(text[first : first + (len(text) - first) // 4 * 4])
