# SPDX-License-Identifier: GPL-2.0-or-later
"""A canary's bytes in what an attacker got: as they stand, few of them, or in another form.

A run of eight bytes is counted. Anything less, or in another form, is a leak if chance brings it about once in 65,536
observations or less often; a byte value that makes up an eighth of the data is its filling and tells nothing.
"""

from __future__ import annotations

import base64
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

PAGE = 4096
SURE = 16.0  # bits
FEW = 8  # bytes
_BLOCK = 8
_FORMS = 8.0  # bits: of 256 forms that are tried
_STRIDES = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)
_WIDTHS = (2, 4, 8)  # bytes of a word that is told as a number
_LEAST = 3  # such numbers
_DEPTH = 2  # texts of texts
_TABLES = {
    "inverted": bytes(value ^ 0xFF for value in range(256)),
    "with each byte's bits backwards": bytes(
        sum((value >> bit & 1) << 7 - bit for bit in range(8)) for value in range(256)
    ),
    "with each byte's halves exchanged": bytes((value * 257 >> 4) & 0xFF for value in range(256)),
}
_TABLES |= {
    f"with each byte's bits rotated by {count}": bytes(
        (value << count | value >> 8 - count) & 0xFF for value in range(256)
    )
    for count in (1, 2, 3, 5, 6, 7)
}  # by 4: its halves exchanged


def canary_of(key: bytes) -> bytes:
    """What a guest makes of its key: a page of zeros, encrypted by ChaCha20 with a nonce of zeros."""
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(PAGE))


def count_leaked(canary: bytes, data: bytes, cuts: Iterable[int] = ()) -> int:
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


def find_hidden(canary: bytes, data: bytes) -> tuple[bool, str]:
    """Whether the data discloses the canary in another way, and in which words; empty if nothing hints at it.

    What hints and is not sure is neither a leak nor a proof.
    """
    grams = _grams(canary)
    if (
        len(set(data)) == 2
        and (count := max((_run(canary, grams, form, _FORMS) for form in _bits(data)), default=0)) > 0
    ):
        return True, f"{count} bytes of the canary as bits"
    filling = _filling(data)
    places = [at for at, value in enumerate(data) if value not in filling]
    if not places:
        return False, ""
    meets = [at for at in places if data[at] == canary[at % PAGE]]
    if meets and (count := _longest(meets)) > 1 and 8 * count - math.log2(len(places) - count + 1) >= SURE:
        return True, f"{count} bytes of the canary at their place"
    if len(meets) > 2 and 8 * len(meets) - math.log2(math.comb(len(places), len(meets))) - _FORMS >= SURE:
        return True, f"{len(meets)} bytes of the canary at their places"
    few = bytes(data[at] for at in places)
    alone = 1 < len(few) <= FEW and few in canary
    if alone and len(few) > 2:
        return True, f"{len(few)} bytes of the canary and no others"
    # The longest: a page in another form may have a few bytes as they stand by chance, or in a third form.
    count, form = max((_run(canary, grams, other, _FORMS if form else 0.0), form) for form, other in _forms(data))
    if count <= FEW and len(data) == PAGE and Counter(data) == Counter(canary):
        return True, "all bytes of the canary in another order"
    if not count:
        pairs = _pairs(canary, data)
        count, form = max((_run(page, _grams(page), other, _FORMS), form) for form, page, other in pairs)
    if count > 0:
        return True, f"{count} bytes of the canary {form}".rstrip()
    if (count := _count_scattered(canary, data, filling)) > 1:
        return True, f"{count} words of the canary in another order"
    if alone or (len(few) == 1 and meets):
        return False, f"{len(few)} bytes that may be the canary's"
    return False, ""


@functools.lru_cache(64)
def _grams(page: bytes) -> dict[bytes, int]:
    """Where each three bytes of a page stand."""
    return {page[at : at + 3]: at for at in range(len(page) - 2)}


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
    hits = [at for at in range(len(data) - 2) if data[at : at + 3] in grams and data[at] not in filling]
    longest = begin = 0
    for at in hits:
        if at < begin:
            continue
        there, length = grams[data[at : at + 3]], 3
        while data[at + length : at + length + 1] == page[there + length : there + length + 1] != b"":
            length += 1
        while data[at + length - 1] in filling:
            length -= 1
        longest = max(longest, length)
        begin = at + max(1, length - 2)
    if not longest:
        return 0
    places = sum(value not in filling for value in data)
    return longest if 8 * longest - math.log2(places * len(page)) - discount >= SURE else 0


def _pairs(canary: bytes, data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Forms that are found by a change of the canary as well: the form, the canary, the data."""
    for width in (1, 2, 4, 8):
        yield f"XORed with {width} bytes", _steps(canary, width), _steps(data, width)
    yield "with a number added to each", _rises(canary), _rises(data)
    for stride in _STRIDES:
        yield f"one byte of each {stride}", b"".join(canary[first::stride] for first in range(stride)), data


def _steps(data: bytes, width: int) -> bytes:
    return bytes(byte ^ other for byte, other in zip(data, data[width:], strict=False))


def _rises(data: bytes) -> bytes:
    return bytes((other - byte) & 0xFF for byte, other in pairwise(data))


def _count_scattered(canary: bytes, data: bytes, filling: set[int]) -> int:
    """How many words of four bytes the data has of the canary, if more than one; chance brings two in 2**17."""
    words = {canary[at : at + 4] for at in range(PAGE - 3)}
    count = at = 0
    while at <= len(data) - 4:
        word = data[at : at + 4]
        hit = word in words and filling.isdisjoint(word)
        count += hit
        at += 4 if hit else 1
    return count if count > 1 and len(data) <= PAGE else 0


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
    for width in (2, 4, 8):
        for first in range(width):
            yield f"with {width - 1} bytes between each two", data[first::width]
    for order in ("big", "little"):
        number = int.from_bytes(data, order)
        for bits in range(1, 8):
            yield f"shifted by {bits} bits", (number << bits).to_bytes(len(data) + 1, order)
    if len(data) > FEW and max(data) < 16:
        for first in (0, 1):
            pairs = list(zip(data[first::2], data[first + 1 :: 2], strict=False))
            yield "as halves of bytes", bytes(high << 4 | low for high, low in pairs)
            yield "as halves of bytes, the lower first", bytes(high << 4 | low for low, high in pairs)
    yield from _texts(data, _DEPTH)


def _texts(data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """What a text stands for, and what that stands for if it is a text."""
    for form, content in _decodings(data.replace(b"\0", b"")):
        yield form, content
        if depth > 1 and content.isascii() and len(content) > 2 * FEW:
            yield from _texts(content, depth - 1)


def _decodings(data: bytes) -> Iterator[tuple[str, bytes]]:
    for clean in {re.sub(rb"0x|\\x|[\s:,\-]+", b"", data), re.sub(rb"0x|[^0-9a-fA-F]+", b"", data)}:
        for text in re.findall(rb"[0-9a-fA-F]{6,}", clean):
            for first in (0, 1):
                even = text[first : first + (len(text) - first) // 2 * 2]
                yield "as hexadecimal digits", bytes.fromhex(even.decode())
                yield "as hexadecimal digits, backwards", bytes.fromhex(even.decode())[::-1]
    for base, width, chars in ((64, 4, rb"A-Za-z0-9+/"), (32, 8, rb"A-Z2-7"), (85, 5, rb"!-z~{|}")):
        for text in re.findall(rb"[%b]{%d,}" % (chars, 2 * width), data):
            for first in range(width):
                yield f"as base{base}", _decode_base(base, text[first : first + (len(text) - first) // width * width])
    for text in re.findall(rb"[a-z2-7]{16,}", data):
        for first in range(8):
            yield "as base32", _decode_base(32, text[first : first + (len(text) - first) // 8 * 8].upper())
    for name, pattern, base in (
        ("hexadecimal", rb"\b(?:0x)?[0-9a-fA-F]{1,16}\b", 16),
        ("decimal", rb"-?\b\d{1,20}\b", 10),
    ):
        numbers = [int(word, base) for word in re.findall(pattern, data)]
        for width in _WIDTHS if len(numbers) >= _LEAST else ():
            yield f"as {name} words of {width} bytes", _words(numbers, width)
    yield "as decimal numbers", _numbers(rb"\d+", data, 10)
    yield "as octal numbers", _numbers(rb"[0-7]{3}", data, 8)


def _bits(data: bytes) -> Iterator[bytes]:
    """Data of two values, each taken for a bit: in both orders, from each place on."""
    low = min(data)
    text = bytes(0x30 + (value != low) for value in data)
    for first in range(8):
        if whole := text[first : first + (len(text) - first) // 8 * 8]:
            for digits in (whole, whole[::-1]):
                number = int(digits, 2).to_bytes(len(whole) // 8, "big")
                for form in (number, number.translate(_TABLES["inverted"])):
                    yield form
                    yield form[::-1]


def _numbers(pattern: bytes, data: bytes, base: int) -> bytes:
    """Numbers in a text, each a byte's."""
    return bytes(value for word in re.findall(pattern, data) if len(word) <= 3 and (value := int(word, base)) < 256)


def _words(numbers: Iterable[int], width: int) -> bytes:
    """Words of memory that are told as numbers, with a sign or without; numbers that no such word is are left out."""
    most = 1 << 8 * width
    return b"".join((number % most).to_bytes(width, "little") for number in numbers if -most // 2 <= number < most)


def _decode_base(base: int, text: bytes) -> bytes:
    """A text of one of the bases, decoded; empty if the text is not of this base."""
    try:
        if base == 85:
            return base64.b85decode(text)
        return base64.b64decode(text) if base == 64 else base64.b32decode(text)
    except ValueError:
        return b""
