# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress of the run for the user: the current step, how far it is, how long it may take.

On a terminal it is one live line; elsewhere (CI) a plain line at most every ten seconds. It goes to standard error, so
that standard output stays the command's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

PLAIN_INTERVAL = 10.0  # seconds


def clock(seconds: float) -> str:
    """A duration as a person reads it: ``7.3 s``, ``2 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


class Step:
    """One step of the run.

    :param expected: seconds that it may take, if known; ``update`` replaces the estimate by the measured rate.
    """

    def __init__(self, title: str, expected: float | None, live: Progress | None, console: Console) -> None:
        self._title = title
        self._expected = expected
        self._live = live
        self._console = console
        self._begun = time.monotonic()
        self._said = self._begun
        self._task: TaskID | None = live.add_task(title, total=1.0, note="") if live else None

    def update(self, fraction: float, note: str = "") -> None:
        """Say how far it is.

        :param fraction: 0 to 1. :param note: a few words, for instance the file being compiled.
        """
        spent = time.monotonic() - self._begun
        if fraction > 0.02 and spent > 2:
            rest = f"{clock(spent * (1 - fraction) / fraction)} left"
        elif self._expected:
            rest = f"about {clock(max(0.0, self._expected - spent))} left"
        else:
            rest = ""
        words = "  ".join(part for part in (rest, note) if part)
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=fraction, note=words)
        elif time.monotonic() - self._said >= PLAIN_INTERVAL:
            self._said = time.monotonic()
            self._console.print(f"  {self._title}: {fraction:4.0%}  {words}", highlight=False, markup=False)


class Terminal:
    """The person at the terminal, or the log of a CI job."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, highlight=False, markup=False)

    @contextmanager
    def step(self, title: str, *, expected: float | None = None) -> Iterator[Step]:
        """Show a step while it runs, and its duration at the end.

        :param expected: seconds that it may take.
        """
        begun = time.monotonic()
        about = f" (about {clock(expected)})" if expected else ""
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),  # a compiler's "[M]" is no markup
                BarColumn(20),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, console=self._console, transient=True) as live:
                yield Step(f"{title}{about}", expected, live, self._console)
        else:
            self.say(f"  {title}{about} ...")
            yield Step(title, expected, None, self._console)
        self.say(f"  {title}: done in {clock(time.monotonic() - begun)}")
