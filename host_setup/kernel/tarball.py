# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's tarball: what is in it, and how it is unpacked. Of every format that GNU tar knows, and lz4."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from common.environment import search_path
from common.errors import CommandError, KernelError, SetupError, UserInputError
from common.names import path_text
from common.processes import run_tree, spawn
from host_setup.kernel import tree
from host_setup.kernel.makefile import release

STAGE = "kernel source"
# First bytes of a file, the program that decompresses it (with -d), and Debian's package of that.
COMPRESSIONS = (
    (b"\xfd7zXZ\0", "xz", "xz-utils"),
    (b"\x5d\0\0", "xz", "xz-utils"),  # lzma, of which xz knows both forms
    (b"\x1f\x8b", "gzip", "gzip"),
    (b"\x1f\x9d", "gzip", "gzip"),  # compress
    (b"BZh", "bzip2", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
    (b"LZIP", "lzip", "lzip"),
    (b"\x89LZO", "lzop", "lzop"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4"),
)
_LARGEST_MAKEFILE = 1 << 20  # bytes
_END = bytes(2 * 512)  # of a tar archive: two blocks of zeros (POSIX, pax)


@dataclass(frozen=True, slots=True)
class Content:
    """What a tarball holds.

    :ivar release: of the kernel. :ivar folder: where its tree begins, as the tarball names it; may be empty.
    """

    release: str
    folder: str


def look_into(path: Path, reinstall: str) -> Content:
    """The kernel in a tarball; reads no further than its top Makefile.

    :param reinstall: what to do if it is damaged.
    :raises KernelError: it ends or breaks before that. :raises UserInputError: it is no tarball of a kernel.
    :raises SetupError: what decompresses it is not installed.
    """
    program = _decompressor(path)
    begun = foreign = False
    with _open_stream(path, program) as (process, stream):
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tarball:
                begun = True
                for member in tarball:
                    folder, _, name = member.name.rpartition("/")
                    makefile = tarball.extractfile(member) if name == "Makefile" and member.isfile() else None
                    if makefile is None:
                        continue
                    version = release(makefile.read(_LARGEST_MAKEFILE).decode(errors="replace"))
                    if version is not None:
                        if program is None:  # tar reports no end that is missing; a decompressor does
                            _require_end(path, reinstall)
                        return Content(version, folder)
                    foreign = foreign or len([part for part in folder.split("/") if part not in ("", ".")]) <= 1
            complete = process.wait() == 0
        except tarfile.TarError as error:
            if "unexpected end" in str(error) or (program is not None and (begun or process.wait() != 0)):
                raise damage_error(path, str(error), reinstall) from error
            raise UserInputError(
                f"{path_text(path)} is not a tarball: {error}",
                stage=STAGE,
                hint="if it is another kind of archive, unpack it and name the folder",
            ) from error
    if not complete:
        raise damage_error(path, f"{program} cannot decompress all of it", reinstall)
    why = "its top Makefile names no kernel version" if foreign else "it has no top Makefile"
    raise UserInputError(f"{path_text(path)} is not a Linux kernel: {why}", stage=STAGE, hint="name a kernel's tarball")


def unpack(path: Path, content: Content, folder: Path, log: Path, reinstall: str) -> None:
    """Put the tree into an empty folder, without what a build has left in it.

    :raises KernelError: the tarball is damaged.
    """
    parts = [part for part in content.folder.split("/") if part]
    program = _decompressor(path)
    command = [
        *("tar", "--extract", f"--file={path}", "--force-local", f"--directory={folder}", "--no-same-owner"),
        f"--strip-components={len(parts)}",
        *([] if program is None else [f"--use-compress-program={program}"]),
        *([] if parts in ([], ["."]) else ["--no-unquote", "--", content.folder]),
    ]
    try:
        run_tree(command, log=log, stage=STAGE)
    except CommandError as error:
        raise damage_error(path, error.tail, reinstall, log) from error
    # A store that keeps everybody from writing (Nix, Bazel) packs its folders so.
    run_tree(["chmod", "--recursive", "u+rwX", str(folder)], log=log, stage=STAGE)
    # Devices, pipes and sockets are no sources; what opens a pipe waits for good.
    run_tree(["find", str(folder), "-type", "b,c,p,s", "-delete"], log=log, stage=STAGE)
    if tree.is_untidy(folder):
        tree.tidy(folder)


def damage_error(path: Path, detail: str, reinstall: str, log: Path | None = None) -> KernelError:
    """The error for a tarball that cannot be read to its end."""
    message = f"{path_text(path)} is truncated or damaged\n{detail}".rstrip()
    return KernelError(message, stage=STAGE, hint=reinstall, artefact=log)


def _require_end(path: Path, reinstall: str) -> None:
    """Refuse a tarball that lacks its end: one that was cut off between two files, or the first of several volumes.

    :raises KernelError: it does.
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, len(_END)), os.SEEK_END)
        if file.read() != _END:
            detail = "it does not end as a tarball does; or it is the first of several volumes"
            raise damage_error(path, detail, reinstall)


def _decompressor(path: Path) -> str | None:
    """The program that decompresses a file; None if it is not compressed.

    :raises SetupError: it is not installed.
    """
    with path.open("rb") as file:
        first = file.read(8)
    for magic, program, package in COMPRESSIONS:
        if first.startswith(magic):
            if shutil.which(program, path=search_path()) is None:
                raise SetupError(
                    f"{path_text(path)} is compressed by {program}, which is not installed",
                    stage=STAGE,
                    hint=f"apt-get install {package}, or unpack it and name the folder",
                )
            return program
    return None


@contextmanager
def _open_stream(path: Path, program: str | None) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A tarball's content as a stream, and the process that it comes from."""
    with path.open("rb") as packed:
        process = spawn(["cat"] if program is None else [program, "-dc"], stdin=packed, stdout=subprocess.PIPE)
    try:
        yield process, cast("IO[bytes]", process.stdout)
    finally:
        process.kill()
        process.wait()
