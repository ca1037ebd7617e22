# SPDX-License-Identifier: GPL-2.0-or-later
"""Core dumps of a host's processes: where they go, and what they hold of a page (core(5), elf(5))."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from common import elf
from common.errors import ChannelError
from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE

FOLDER = "/run/guest"
TO_A_FILE = f"{FOLDER}/core.%p"
TO_A_HANDLER = f"|/bin/busybox dd of={FOLDER}/core.%p bs=64k"


@contextmanager
def cores_go(ssh: Ssh, pattern: str) -> Iterator[None]:
    """Core dumps go where ``pattern`` says for as long as the context lasts; the kernel waits for a handler to end."""
    settings = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/core_pipe_limit"]
    before = [ssh.run(["cat", path], seconds=10).require().text for path in settings]
    _write(ssh, settings, [pattern, "1"])
    try:
        yield
    finally:
        _write(ssh, settings, before)


def core_of(pid: int) -> str:
    """The core dump of a process, a file of the host."""
    return f"{FOLDER}/core.{pid}"


def page_in_core(ssh: Ssh, path: str, address: int) -> bytes | None:
    """What a core dump holds of the page at an address: all of it, nothing, or not even that it was mapped (None).

    :raises ChannelError: it is no core dump, or ends before what it says that it holds.
    """
    try:
        segments = elf.segments(partial(_part, ssh, path))
    except ValueError as error:
        raise ChannelError(f"{path} is no core dump: {error}") from error
    for segment in segments:
        at = address - segment.virtual
        if 0 <= at < segment.in_file:
            return _part(ssh, path, segment.offset + at, PAGE_SIZE)
        if 0 <= at < segment.in_memory:
            return b""
    return None


def _part(ssh: Ssh, path: str, offset: int, size: int) -> bytes:
    command = ["dd", f"if={path}", "bs=4k", f"skip={offset}", f"count={size}", "iflag=skip_bytes,count_bytes"]
    data = ssh.run([*command, "status=none"], seconds=20).require().stdout
    if len(data) != size:
        raise ChannelError(f"{path} has {len(data)} bytes of {size} at {offset:#x}: it was cut short")
    return data


def _write(ssh: Ssh, paths: list[str], values: list[str]) -> None:
    for path, value in zip(paths, values, strict=True):
        ssh.run(["sh", "-c", 'printf %s "$1" > "$0"', path, value], seconds=10).require()
