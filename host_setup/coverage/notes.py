# SPDX-License-Identifier: GPL-2.0-or-later
"""What gcov makes of counters: which lines ran, and which of their branches were taken.

The compiler's ``.gcno`` files hold the graph of each function; gcov lays the counters over it and tells the rest. Only
functions with lines that somebody asks about are handed to it, which makes a hundredth of the work.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common.commands import output
from common.errors import KernelError
from host_setup.coverage.counters import STAGE

_FUNCTION, _LINES = 0x01000000, 0x01450000  # gcc/gcov-io.h
_HEADER = struct.Struct("<4sIII")  # magic, version, stamp, checksum
_MAGIC = b"oncg"  # "gcno" as a little-endian word
_SOURCE = re.compile(r"(?:/linux|.*/source)/")
_TOGETHER = 40  # files that one gcov gets at the most


@dataclass(frozen=True, slots=True)
class NoteFunction:
    """A function of a ``.gcno`` file.

    :ivar records: its own record and what follows, up to the next function's.
    :ivar lines: files, as the compiler names them, and numbers of the lines that it has code of; inlined ones are among
        them, of which gcov does not say where they are.
    """

    ident: int
    records: bytes
    lines: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Notes:
    """A ``.gcno`` file, taken apart.

    :ivar head: what comes before the first function. :ivar folder: where the compiler ran.
    """

    head: bytes
    folder: str
    functions: tuple[NoteFunction, ...]

    @classmethod
    def read(cls, file: Path) -> Notes:
        """Read a file.

        :raises KernelError: gcc 12 or newer did not write this file.
        """
        raw = file.read_bytes()
        magic, version = struct.unpack_from("<4sI", raw)
        if magic != _MAGIC or version < int.from_bytes(b"*02B", "little"):
            raise KernelError(f"{file} was not written by gcc 12 or newer", stage=STAGE, artefact=file)
        folder, at = _text(raw, _HEADER.size)
        starts: list[int] = []
        lines: list[set[tuple[str, int]]] = []
        at = end = at + 4
        while at + 8 <= len(raw):
            tag, size = struct.unpack_from("<II", raw, at)
            if tag == _FUNCTION:
                starts.append(at)
                lines.append(set())
            elif tag == _LINES:
                lines[-1] |= _of_block(raw, at + 12)  # behind the block's number
            at += 8 + size
        functions = [
            NoteFunction(struct.unpack_from("<I", raw, start + 8)[0], raw[start:next_start], frozenset(lines_of))
            for start, next_start, lines_of in zip(starts, [*starts[1:], len(raw)], lines, strict=True)
        ]
        return cls(raw[:end], folder, tuple(functions))

    def of(self, idents: Collection[int]) -> bytes:
        """The file with these functions alone."""
        return self.head + b"".join(function.records for function in self.functions if function.ident in idents)


def _text(raw: bytes, at: int) -> tuple[str, int]:
    """A string, with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", raw, at)
    return raw[at + 4 : at + 4 + length].rstrip(b"\0").decode(errors="surrogateescape"), at + 4 + length


def _of_block(raw: bytes, at: int) -> set[tuple[str, int]]:
    """Files and lines of a record: numbers; a 0 comes before a file's name, and an empty one ends it."""
    numbers, file = set(), ""
    while True:
        (number,) = struct.unpack_from("<I", raw, at)
        at += 4
        if number:
            numbers.add((file, number))
            continue
        file, at = _text(raw, at)
        if not file:
            return numbers


@dataclass(frozen=True, slots=True)
class Line:
    """What gcov tells of a line in a function of an object.

    :ivar file: of the kernel's tree. :ivar count: how often it ran.
    :ivar branches: how often each was taken.
    """

    file: str
    number: int
    function: str
    count: int
    branches: tuple[int, ...]


def program(compiler: str) -> str:
    """The gcov that goes with a gcc: ``gcc-13`` has ``gcov-13``, in the same folder."""
    folder, slash, name = compiler.rpartition("/")
    return f"{folder}{slash}{name.replace('gcc', 'gcov')}"


def source_name(name: str, folder: str) -> str | None:
    """A file as the compiler names it, by its place in the kernel's tree; None: it lies outside.

    :param folder: where the compiler ran, which is the build folder below the tree.
    """
    path = PurePosixPath(folder) / name
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    match = _SOURCE.match("/".join(parts).replace("//", "/"))
    return None if match is None else "/".join(parts).replace("//", "/")[match.end() :]


def lines(gcov: str, folder: Path, names: Collection[str]) -> Iterator[tuple[str, Line]]:
    """What gcov tells of objects, each with its name.

    :param folder: holds their ``.gcno`` files, and the ``.gcda`` files, if something was counted.
    :param names: the objects', which are the files' without suffix.
    """
    ordered = sorted(names)
    for first in range(0, len(ordered), _TOGETHER):
        batch = ordered[first : first + _TOGETHER]
        argv = [gcov, "--json-format", "--branch-counts", "--branch-probabilities", "--stdout"]
        answer = output([*argv, *(str(folder / f"{name}.gcno") for name in batch)], stage=STAGE)
        for report in (json.loads(line) for line in answer.splitlines() if line.startswith(b"{")):
            name = str(Path(str(report["data_file"])).with_suffix("").relative_to(folder))
            yield from ((name, line) for line in _lines(report))


def _lines(report: Mapping[str, Any]) -> Iterator[Line]:
    for file in report["files"]:
        name = source_name(file["file"], report["current_working_directory"])
        if name is None:
            continue
        for line in file["lines"]:
            branches = tuple(int(branch["count"]) for branch in line["branches"])
            yield Line(name, int(line["line_number"]), line.get("function_name", ""), int(line["count"]), branches)


def interesting(build: Path, is_added: Callable[[str, int], bool], work: Path) -> dict[str, tuple[int, ...]]:
    """Which functions have lines that somebody asks about: by object, their idents.

    :param build: the kernel's build folder, with ``.gcno`` files. :param is_added: whether a line of a file is asked
        about.
    :param work: a folder in which a ``.gcno`` file of these functions alone is left for each such object.
    """
    numbers_of: dict[str, tuple[int, ...]] = {}
    for file in sorted(build.rglob("*.gcno")):
        notes = Notes.read(file)
        names = {name: source_name(name, notes.folder) for function in notes.functions for name, _ in function.lines}

        def has(function: NoteFunction, names: dict[str, str | None] = names) -> bool:
            return any(is_added(place, number) for name, number in function.lines if (place := names[name]) is not None)

        idents = tuple(function.ident for function in notes.functions if has(function))
        if idents:
            name = file.relative_to(build).with_suffix("")
            numbers_of[str(name)] = idents
            stripped = work / f"{name}.gcno"
            stripped.parent.mkdir(parents=True, exist_ok=True)
            stripped.write_bytes(notes.of(idents))
    return numbers_of
