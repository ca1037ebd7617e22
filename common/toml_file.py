# SPDX-License-Identifier: GPL-2.0-or-later
"""A TOML file that a user writes: read, checked by a model, and each fault told as ``file:line: field: what``."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import UserInputError
from common.names import path_text

_HEADER = re.compile(r"\s*\[\[?[^\]]+\]\]?")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")

Model = TypeVar("Model", bound=BaseModel)


def load(
    file: Path, model: type[Model], *, stage: str, strict: bool | None = None, example: str = "", hint: str = ""
) -> Model:
    """Read a file.

    :param strict: as of pydantic; None: as the model has it.
    :param example: entries that such a file has, for a file that is no TOML.
    :param hint: what to do about an entry that is not valid.
    :raises UserInputError: it cannot be read, is not TOML, or is not valid.
    """
    text, content = parse(file, stage=stage, example=example)
    try:
        return model.model_validate(content, strict=strict)
    except ValidationError as error:
        words = "\n".join(faults(file, text, error))
        raise UserInputError(words, stage=stage, artefact=file, hint=hint or "correct these lines") from error


def parse(file: Path, *, stage: str, example: str = "", hint: str = "") -> tuple[str, dict[str, Any]]:
    """A file's text, and what stands in it.

    :param example: as of ``load``. :param hint: what to do, if nothing can be read or it is no TOML.
    :raises UserInputError: it cannot be read, or is not TOML.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        raise UserInputError(f"{path_text(file)} cannot be read: {error.strerror}", stage=stage, hint=hint) from error
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8, no TOML, a number of too many digits
        raise UserInputError(
            f"{path_text(file)} is not TOML: {error}",
            stage=stage,
            artefact=file,
            hint=hint or f"write it as UTF-8 text, one entry a line{': ' + example if example else ''}",
        ) from error


def faults(
    file: Path,
    text: str,
    error: ValidationError,
    *,
    unnamed: Collection[str] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The faults that pydantic found, each with its line and field.

    :param unnamed: what pydantic names between the fields, and the file does not: the kinds of a union.
    :param words: what to say of a fault in place of pydantic's message, by pydantic's type.
    """
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        where = [part for part in detail["loc"] if part not in unnamed]
        message = words.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))
        field = ".".join(map(str, where))
        lines.append(f"{path_text(file.name)}:{line_of(text, where)}: {field + ': ' if field else ''}{message}")
    return lines


def line_of(text: str, where: Sequence[str | int]) -> int:
    """The line of a TOML text that sets a value, or else that begins the innermost table around it; 1 if none does.

    :param where: the keys, outermost first; behind an array of tables the number of the table, from 0.
    """
    tables: Counter[tuple[str | int, ...]] = Counter()
    table: tuple[str | int, ...] = ()
    best, line = 0, 1
    for number, words in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(words):
            named = _keys(header[0])
            if header[0].lstrip().startswith("[["):
                tables[named] += 1
                named = (*named, tables[named] - 1)
            table = named
        elif key := _KEY.match(words):
            named = (*table, *_keys(f"{key[1]} = {{}}"))
        else:
            continue
        if named == tuple(where[: len(named)]) and len(named) > best:
            best, line = len(named), number
    return line


def _keys(toml: str) -> tuple[str | int, ...]:
    """The keys, outermost first, of TOML that names one table."""
    try:
        value: Any = tomllib.loads(toml.strip())
    except tomllib.TOMLDecodeError:
        return ()
    keys = []
    while value:
        value = value[0] if isinstance(value, list) else value
        if not value:
            break
        ((key, value),) = value.items()
        keys.append(key)
    return tuple(keys)
