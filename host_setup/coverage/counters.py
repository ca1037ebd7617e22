# SPDX-License-Identifier: GPL-2.0-or-later
"""The counters of a kernel's code, read from its memory as they stand there, and written as ``.gcda`` files.

Where they are the kernel's vmlinux tells: gcc leaves a structure ``__gcov_.NAME`` for each function that counts,
which leads to its counters and to its object (Linux 6.12 describes both in kernel/gcov/gcc_4_7.c). From there they
can be read in the memory of a machine, from outside: that costs the machine nothing, changes nothing in it, and works
on one that has died or lets nobody look into its memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import KernelError

STAGE = "coverage"
IMAGE = 0xFFFFFFFF80000000
"""Virtual address of physical address 0 in the kernel's image (arch/x86/include/asm/page_64_types.h), without KASLR."""

_MAGIC, _FUNCTION, _COUNTER = 0x67636461, 0x01000000, 0x01A10000  # gcc/gcov-io.h; the counters of arcs
_IMPLAUSIBLE = 1 << 40  # what is above was never counted: it is no counter any more, but other use of the memory
_OBJECT = re.compile(r"(?:.*/source|/linux)/build/(.+)\.gcda")

Read = Callable[[int, int], bytes]
"""So many bytes of a kernel's image, from a virtual address on."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that counts.

    :ivar ident: tells it from others of the object. :ivar lines, graph: gcc's checksums of both.
    :ivar address: of its counters, each of 8 bytes. :ivar number: how many they are.
    """

    ident: int
    lines: int
    graph: int
    address: int
    number: int

    @property
    def size(self) -> int:
        """Bytes of its counters."""
        return 8 * self.number


@dataclass(frozen=True, slots=True)
class Object:
    """An object file that counts.

    :ivar name: its path below the build folder, without suffix. :ivar version: gcc's, as it stands in the files.
    :ivar stamps: what must be the same in its ``.gcno`` file.
    """

    name: str
    version: int
    stamps: tuple[int, ...]
    functions: tuple[Function, ...]


def compiler_release(version: int) -> int:
    """gcc's major release, of a version word such as that of "B22*" (gcc/gcov-io.cc, before it gcov-io.h)."""
    tens, units = (version >> 24) - ord("A"), ((version >> 16) & 0xFF) - ord("0")
    if not 0 <= tens <= 9 or not 0 <= units <= 9:
        raise KernelError(f"not a version of gcc: {version:#x}", stage=STAGE)
    return tens * 10 + units


def layout(structures: Iterable[int], read: Read) -> tuple[Object, ...]:
    """All objects that count.

    :param structures: addresses of what gcc calls ``__gcov_.NAME``.
    :raises KernelError: what is there is not as gcc 12 or newer makes it.
    """
    functions: dict[int, list[Function]] = {}
    for at in sorted(structures):
        owner, ident, lines, graph, number, values = struct.unpack("<QIII4xI4xQ", read(at, 40))
        functions.setdefault(owner, []).append(Function(ident, lines, graph, values, number))
    return tuple(_object(read, at, functions_of) for at, functions_of in functions.items())


def _object(read: Read, at: int, functions: Sequence[Function]) -> Object:
    version, stamp, checksum, filename = struct.unpack("<I12xIIQ", read(at, 32))
    release = compiler_release(version)
    if release < 12:
        raise KernelError(f"its compiler is gcc {release}", stage=STAGE, hint="coverage needs gcc 12 or newer")
    return Object(_name(read, filename), version, (stamp, checksum), tuple(functions))


def _name(read: Read, at: int) -> str:
    text = b""
    while b"\0" not in text:
        text += read(at + len(text), 64)
    path = text.partition(b"\0")[0].decode(errors="surrogateescape")
    match = _OBJECT.fullmatch(path)
    if match is None:
        raise KernelError(f"an object that counts lies outside the kernel's build: {path}", stage=STAGE)
    parts: list[str] = []
    for part in match[1].split("/"):
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


# --- what was counted -------------------------------------------------------------------------------------------------

Counts = dict[tuple[str, int], bytes]
"""By an object's name and a function's ident: its counters, 8 bytes each."""


def counts(objects: Sequence[Object], read: Read) -> Counts:
    """What stands in the counters now.

    :raises KernelError: what stands there cannot have been counted.
    """
    numbers: Counts = {}
    for object_ in objects:
        for function in object_.functions:
            raw = read(function.address, function.size)
            if any(value >= _IMPLAUSIBLE for (value,) in struct.iter_unpack("<Q", raw)):
                raise KernelError(f"the counters of {object_.name} are not in the expected form", stage=STAGE)
            numbers[object_.name, function.ident] = raw
    return numbers


def since(now: Counts, before: Counts) -> Counts:
    """What was counted in between; functions that did not run are left out.

    A counter that has fallen began anew, with its kernel. (Two CPUs that count at once may lose a step, too: then it
    counts what it should not have, but nothing that never ran.)
    """
    difference: Counts = {}
    for key, raw in now.items():
        old = before.get(key, bytes(len(raw)))
        if raw != old:
            pairs = zip(struct.iter_unpack("<Q", raw), struct.iter_unpack("<Q", old), strict=True)
            difference[key] = b"".join(struct.pack("<Q", a - b if a >= b else a) for (a,), (b,) in pairs)
    return difference


def add(to: Counts, more: Mapping[tuple[str, int], bytes]) -> None:
    """Add counts to others."""
    for key, raw in more.items():
        if key not in to:
            to[key] = raw
            continue
        pairs = zip(struct.iter_unpack("<Q", raw), struct.iter_unpack("<Q", to[key]), strict=True)
        to[key] = b"".join(struct.pack("<Q", a + b) for (a,), (b,) in pairs)


def write(folder: Path, objects: Sequence[Object], counted: Counts) -> None:
    """Write a ``.gcda`` file for each object of which something was counted.

    :param folder: they lie in it as their objects in the build folder. It is there afterwards in any case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for object_ in objects:
        body = b""
        for function in object_.functions:
            raw = counted.get((object_.name, function.ident))
            if raw is None:
                continue
            body += struct.pack("<IIIII", _FUNCTION, 12, function.ident, function.lines, function.graph)
            body += struct.pack("<II", _COUNTER, function.size) + raw
        if body:
            file = folder / f"{object_.name}.gcda"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(struct.pack(f"<II{len(object_.stamps)}I", _MAGIC, object_.version, *object_.stamps) + body)
