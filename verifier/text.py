# SPDX-License-Identifier: GPL-2.0-or-later
"""Text from strangers: JSON read strictly, words shown safely."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_BLANKS = frozenset(" \n\t")


class UnsoundError(Exception):
    """The report is not what it must be: not consistent, or not what was signed."""


def legible(text: object, most: int = 300) -> str:
    """A text for the terminal, without what moves its cursor or hides other text, and not too long."""
    words = "".join(char if char == " " or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return words if len(words) <= most else f"{words[:most]}..."


def for_page(text: str) -> str:
    """A text as a report's page shows it."""
    return "".join(char if char in _BLANKS or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def parse(data: bytes, label: str) -> Any:
    """JSON in which each name stands once, and each number is finite.

    :raises UnsoundError: the bytes are not such JSON.
    """
    try:
        text = data.decode("utf-8")
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_number)
        if _HALF.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # half of a pair is no letter: nothing can write it
        return content
    except (ValueError, RecursionError) as error:
        raise UnsoundError(f"{label} is not valid JSON: {legible(error, 80)}") from error


def unusual(data: bytes, label: str) -> str:
    """Whether JSON is written in another way than sealproof writes its reports; empty if it is not."""
    usual = f"{json.dumps(parse(data, label), indent=1)}\n".encode() == data
    return "" if usual else f"{label} is not written as sealproof writes it"


def lines(data: bytes, label: str) -> list[Any]:
    """JSON, an object a line.

    :raises UnsoundError: a line is not JSON, or the last line is cut short.
    """
    if data and not data.endswith(b"\n"):
        raise UnsoundError(f"{label} is cut short")
    objects = [parse(line, f"{label}, line {number},") for number, line in enumerate(data.split(b"\n")[:-1], 1)]
    if any(not isinstance(line, dict) for line in objects):
        raise UnsoundError(f"{label} has a line that is not an object")
    return objects


def table(value: Any, label: str, *names: str) -> dict[str, Any]:
    """An object that has these names.

    :raises UnsoundError: the value is not an object, or lacks a name.
    """
    if not isinstance(value, dict):
        raise UnsoundError(f"{label} is no object")
    if lacking := [name for name in names if name not in value]:
        raise UnsoundError(f"{label} has no {lacking[0]}")
    return value


def check_names(value: dict[str, Any], label: str, names: Collection[str]) -> None:
    """An object has no other names.

    :raises UnsoundError: it has one: nothing is held against it, and readers would take its word.
    """
    if strange := set(value) - set(names):
        raise UnsoundError(f"{label} has {legible(min(strange), 40)}, which it must not have")


def same(value: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: 0 is neither false nor 0.0."""
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has a name twice")
    return fields


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _number(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is too large a number")
    return number
