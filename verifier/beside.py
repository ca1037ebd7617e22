# SPDX-License-Identifier: GPL-2.0-or-later
"""Files beside the observations: what hosts leave, and texts that are kept with a claim. Each has a form.

No evidence decides what a host's own console or QEMU says. But a reader of a report reads it, so nothing else may
stand there, and no host's folder may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from verifier import bounds
from verifier.text import UnsoundError, legible, lines
from verifier.tree import Tree

_FOLDER = re.compile(r"hosts/host-([0-9]+)/(.+)")
_OF_BOCHS = {"bochsrc", "bochs.log", "debugger.rc", "slirp.conf"}
_OF_QEMU = {"qemu.log", "qmp.jsonl"}
_OF_MACHINES = ("hosts/console.log", "hosts/console.log.stderr")
_TRANSCRIPT = {"time", "execute", "arguments", "reply"}
_COMMANDS = {
    *("blockdev-add", "chardev-change", "chardev-send-break", "cont", "device_add", "dump-guest-memory", "getfd"),
    *("human-monitor-command", "job-dismiss", "memsave", "migrate", "migrate-incoming", "migrate-set-capabilities"),
    *("migrate-set-parameters", "object-add", "pmemsave", "query-jobs", "query-memory-devices"),
    *("query-memory-size-summary", "query-migrate", "query-status", "quit", "set-action", "stop", "system_reset"),
    "system_wakeup",
}
"""Of QMP, that a run gives (QEMU: qapi/)."""
_MONITOR, _SIZE = "human-monitor-command", "query-memory-size-summary"
_ARRIVED = re.compile(rb"[0-9]{1,11}\.[0-9]{3} [0-9]{1,9}")
_TRACED = re.compile(
    r"#.*| +\S.*-[0-9]+ +\[[0-9]{3}\] [A-Za-z0-9.]{5} +[0-9]+\.[0-9]+: .*|CPU:[0-9]+ \[LOST [0-9]+ EVENTS\]"
)
"""A line of a trace (Linux: kernel/trace/trace_output.c, trace_print_context())."""
_N = r" *[0-9]{1,12}"
_BY = (
    r"(?:its own nested page tables|nested page tables of others|the kernel|a process"
    r"|an address space that has nothing else)"
)
_TEXT_LINE = re.compile(
    rf"{_N}\.[0-9]{{3}} s: {_N} frames hold the content, {_N} mapped by the kernel, {_N} by a process"
    rf"|[a-z][a-z0-9-]{{0,39}}:{_N} (?:private|other) pages|{_N} mapped by (?:nobody|{_BY}(?: \+ {_BY})*)"
    rf"|topmost tables:{_N}"
    rf"|(?:kernel|processes|address spaces of one page):{_N} tables,{_N} leaves,{_N} guests' frames mapped"
    rf"|{_N} sequences,{_N} operations,{_N} answers; looks at pages:{_N} from which the VMM was kept,{_N} that it read,"
    rf"{_N} that it left"
)
_FORMED = re.compile(
    r"/(?:cleared|holders|walked|(?:another-)?(?:protected|plain)(?:-reset|-SIGKILL)?|tried-(?:protected|plain))\.txt"
)
"""Texts of which each line has a form; the contract names which texts there are."""


def host_faults(tree: Tree, host: dict[str, str], *, emulated: bool, tried: bool) -> Iterator[str]:
    """Where what hosts have left is not what they leave.

    :param host: what the record says of it. :param emulated: whether hosts are made by an emulator.
    :param tried: whether a claim has a verdict from a host.
    """
    folders: dict[int, set[str]] = {}
    for name in tree.names:
        if match := _FOLDER.fullmatch(name):
            folders.setdefault(int(match[1]), set()).add(match[2])
        elif name in _OF_MACHINES and host and "machine" not in host:
            yield f"{name} is of a real machine, and the host is none"
    first = 1 if emulated and tried else 0
    if gone := sorted({*range(1, max(folders, default=first) + 1)} - folders.keys()):
        yield f"hosts/host-{gone[0]} is missing: each host that was started leaves one"
    strange = _OF_QEMU if "emulator" in host else _OF_BOCHS
    for number, files in sorted(folders.items()):
        if (others := sorted(files & strange)) and emulated:
            yield f"hosts/host-{number}/{others[0]} is of another emulator than the record's"
        where = f"hosts/host-{number}"
        if "qmp.jsonl" in files and (fault := _transcript_fault(tree, f"{where}/qmp.jsonl", host)):
            yield fault
        if "console.times" in files and (fault := _times_fault(tree, f"{where}/console.times")):
            yield fault


def _transcript_fault(tree: Tree, name: str, host: dict[str, str]) -> str:
    """How a transcript of QMP is none of a run; empty if it is one."""
    try:
        rows = lines(tree.read(name), name)
    except UnsoundError as error:
        return str(error)
    for row in rows:
        if set(row) != _TRANSCRIPT or row["execute"] not in _COMMANDS or not _are_of_kinds(row):
            return f"{name} has {legible(json.dumps(row), 80)}, which is no command of a run"
        reply = row["reply"]
        size = bounds.memory_size(host) if row["execute"] == _SIZE else None
        if size is not None and isinstance(reply, dict) and reply.get("base-memory", size) != size:
            told = legible(reply["base-memory"], 40)
            return f"{name}: its host has {told} bytes, and to the record {host['memory']}"
    return ""


def _are_of_kinds(row: dict[str, Any]) -> bool:
    """Whether time, arguments and reply can be those of a command."""
    number = isinstance(row["time"], float | int) and not isinstance(row["time"], bool)
    replies = str if row["execute"] == _MONITOR else dict | list
    is_error = row["reply"] is None or (isinstance(row["reply"], dict) and set(row["reply"]) == {"error"})
    return number and isinstance(row["arguments"], dict) and (is_error or isinstance(row["reply"], replies))


def _times_fault(tree: Tree, name: str) -> str:
    """How the times of a console are not those of its log; empty if they are."""
    log = name.replace(".times", ".log")
    rows = tree.read(name).split(b"\n")[:-1]
    if not all(_ARRIVED.fullmatch(row) for row in rows):
        return f"{name} has a line that is not a time and a number of bytes"
    told, there = sum(int(row.split()[1]) for row in rows), tree.sizes.get(log, 0)
    return "" if told == there else f"{name} tells of {told} bytes, and {log} has {there}"


def text_fault(tree: Tree, name: str) -> str:
    """Whether a text that is kept with a claim has a line of another form; empty if it has none."""
    if not _FORMED.search(name):
        return ""
    text = tree.read(name).decode("utf-8", "replace")
    form = _TRACED if text.startswith("# tracer: ") else _TEXT_LINE
    for line in text.splitlines():
        if not form.fullmatch(line) or not line.replace("\t", " ").isprintable():
            return f"{name} has the line {legible(line, 100)!r}, which no such text has"
    return ""
