# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened when, on one page of text: consoles, kernel logs, QMP, the probe and the harness, in one order.

::

    14:02:11.402   +0.000  harness     the test begins
    14:02:11.610   +0.208  probe       planted a canary: user page, private, at 0x4a3d000 in protected
    14:02:11.655   +0.253  qmp host-1  human-monitor-command info registers
    14:02:11.702   +0.300  host-1      [  12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000010

A console's line has the time at which it arrived here (``console.times``, see ``qemu``). All that a host's kernel logs
is on its console; a guest's console is a file of its host, whose last lines stand at the end, without times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import oops
from common.text import printable

CONSOLE, TIMES, TRANSCRIPT = "console.log", "console.times", "qmp.jsonl"  # files of a host that runs in a QEMU

MOST = 2000  # lines of a timeline; those in the middle are left out
_LONG = 400  # characters of an event


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happened.

    :ivar time: seconds since 1970. :ivar source: who tells of it.
    """

    time: float
    source: str
    words: str


def timeline(run: Path, begin: float, end: float, notes: Iterable[Event], last: Iterable[tuple[str, str]] = ()) -> str:
    """What happened in a run between two times, with the oopses among it first.

    :param run: the run's folder. :param notes: events of the probe and the harness.
    :param last: machines, by name, and what each said last or does now.
    """
    consoles = {folder.name: list(console(folder)) for folder in sorted((run / "hosts").glob("*")) if folder.is_dir()}
    console_events = [event for events in consoles.values() for event in events]
    events = [*notes, *console_events, *_canary_events(run / "journal.jsonl")]
    for name in consoles:
        events += _qmp_events(run / "hosts" / name / TRANSCRIPT, f"qmp {name}")
    in_time = sorted(event for event in events if begin <= event.time <= end)
    messages = [
        f"{name}: {message.words}"
        for name, lines in consoles.items()
        for message in oops.find("\n".join(line.words for line in lines if begin <= line.time <= end))
    ]
    width = max((len(event.source) for event in in_time), default=0)
    lines = [_line(event, begin, width) for event in in_time]
    if len(lines) > MOST:
        half = MOST // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half} lines are left out ...", *lines[-half:]]
    for name, words in last:
        lines += ["", f"{name}:", *(f"  {line}" for line in printable(words).splitlines())]
    return "".join(f"{line}\n" for line in [*messages, *([""] if messages else []), *lines])


def console(folder: Path) -> Iterator[Event]:
    """The lines of a machine's console, with the times at which they came."""
    try:
        text = (folder / CONSOLE).read_bytes()
        times = (folder / TIMES).read_text(encoding="ascii").split("\n")[:-1]
    except OSError:
        return
    at = 0
    for stamp in times:
        when, _, length = stamp.partition(" ")
        line = text[at : at + int(length)]
        at += int(length)
        yield Event(float(when), folder.name, line.decode(errors="replace").rstrip())


def _qmp_events(file: Path, source: str) -> Iterator[Event]:
    for line in _records(file):
        arguments, reply = line.get("arguments") or {}, line.get("reply")
        operands = arguments.get("command-line") or (json.dumps(arguments) if arguments else "")
        words = f"{line.get('execute')} {operands}".rstrip()
        if isinstance(reply, dict) and "error" in reply:
            words += f": refused: {reply['error']}"
        yield Event(float(line["time"]), source, words)


def _canary_events(journal: Path) -> Iterator[Event]:
    for line in _records(journal):
        if line.get("event") == "planted":
            words = f"planted a canary: {line['page']} page, {line['state']}, at {line['gpa']} in {line['guest']}"
            yield Event(float(line["time"]), "probe", f"{words}, on {line['host']}")


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of JSON; one that is half written is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("time"), int | float):
            yield record


def _line(event: Event, begun: float, width: int) -> str:
    clock = f"{datetime.fromtimestamp(event.time, UTC):%H:%M:%S.%f}"[:-3]
    words = printable(event.words).replace("\n", "\\n")
    words = words if len(words) <= _LONG else f"{words[:_LONG]} ..."
    return f"{clock} {event.time - begun:+9.3f}  {event.source:<{width}}  {words}"
