# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of a guest's secret anywhere in its host's memory, in every encoding that costs nothing.

The search is by words: each aligned word of 8 bytes of the memory is looked up among all words that the secret has, at
any offset and in any of the encodings. So it finds 15 bytes of it wherever they are, and 8 bytes in a register's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import TypeVar

from signoff.observation import PAGE_SIZE
from tests_e2e.support.live_memory import frames_in
from tests_e2e.support.translations import TABLE, Memory

WORD = 8  # bytes
AS_IT_IS = "as it is"
EMPTY = bytes(PAGE_SIZE)
DIFFERENT = 3  # bytes in a word, at least
A_WORD = bytes([True] * WORD)

Name = TypeVar("Name", bound=Hashable)


def encodings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """A secret as somebody may have it: the encoding's name and the bytes, more than once where there are phases.

    :param secret: one that is repeated without end is given so often that each encoding has all of it.
    """
    inverted = bytes(0xFF - byte for byte in secret)
    yield AS_IT_IS, secret
    yield "reversed", secret[::-1]
    yield "inverted", inverted
    yield "reversed and inverted", inverted[::-1]
    for size in (2, 4):  # words with their bytes swapped in each 8 are words of what is reversed
        for phase in range(size):
            yield f"with its bytes swapped in each {size}", _swap_bytes(secret[phase:], size)
    for size, step in ((1, 2), (1, 4), (1, 8), (2, 4), (4, 8)):
        for phase in range(step):
            parts = (secret[at : at + size] for at in range(phase, len(secret), step))
            yield f"{size} of each {step} bytes", b"".join(parts)


def _swap_bytes(content: bytes, size: int) -> bytes:
    return b"".join(content[at : at + size][::-1] for at in range(0, len(content) - size + 1, size))


def words_of(secret: bytes) -> dict[int, str]:
    """All words of a secret in all encodings, each with the encoding's name.

    :raises ValueError: the secret has words that anybody has.
    """
    if common := common_words(secret):
        raise ValueError(f"a secret is random: {len(common)} words of this one are not")
    return _words(secret)


def common_words(secret: bytes) -> list[int]:
    """The words of a secret, in any encoding, that anybody has: of one byte or two again and again."""
    return [word for word in _words(secret) if len(set(word.to_bytes(WORD, "little"))) < DIFFERENT]


def _words(secret: bytes) -> dict[int, str]:
    words_of: dict[int, str] = {}
    for name, content in encodings(secret):
        for at in range(len(content) - WORD + 1):
            words_of.setdefault(int.from_bytes(content[at : at + WORD], "little"), name)
    return words_of


def search(memory: Memory, words: Mapping[int, Name], skip: Collection[int] = ()) -> dict[int, dict[Name, int]]:
    """The page frames that hold words of a secret: how many of them by what each is called.

    :param words: with their names: the encoding's. :param skip: frames that are not looked at.
    """
    numbers = frozenset(words)
    letters = frozenset(b"".join(word.to_bytes(WORD, "little") for word in numbers))
    marks = bytes(byte in letters for byte in range(256))
    names_in: dict[int, dict[Name, int]] = {}
    for frame in frames_in(memory):
        if frame in skip:
            continue
        page = memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE]
        # Quickly: of a secret in few letters few pages have 8 bytes, one after the other, that could be some of it.
        if page == EMPTY or A_WORD not in page.translate(marks):
            continue
        page_words = TABLE.unpack(page)
        if not numbers.isdisjoint(page_words):
            names_in[frame] = dict(Counter(words[word] for word in page_words if word in numbers))
    return names_in
