# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fleet run`` would do: which groups where, for how long by the last runs; and each machine's own plan."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from common.paths import PROJECT
from common.progress import clock
from fleet.groups import Group
from fleet.job import Workers
from fleet.machines import Access, SshTarget, problem
from fleet.speedup import forecast
from signoff.contract import Mode
from signoff.forecast import describe, last_seconds

PATIENCE = 600  # seconds for a machine's own plan: it may have to read a kernel's source


def say_plan(
    groups: Sequence[Group], workers: Workers, reports: Path, *, each: bool, say: Callable[[str], None]
) -> bool:
    """Say the plan of a fleet; it asks each machine for its own, and makes nothing.

    :param groups: at least one; all have the same options. :param each: every machine gets all groups.
    :returns: whether a machine is there whose set-up would not fail.
    """
    words = [*dict.fromkeys(group.file for group in groups), *groups[0].options]
    say("dry run: nothing is made, booted or leased")
    seconds = last_seconds(reports, mode_of(words))
    names = [claim for group in groups for claim in group.claims]
    say(f"claims: {describe(names, seconds)}, in {len(groups)} group{'s' if len(groups) > 1 else ''}")
    takes = [sum(seconds.get(claim, 0.0) for claim in group.claims) for group in groups]
    hands = 1 if each else max(1, len(workers.machines) or workers.local)
    if any(takes):
        say(f"{hands} at a time: {clock(forecast(takes, hands).seconds)}, plus the start-up time of each group")
    command = ["-m", "pytest", *words, "--dry-run", "-q", "--no-header", "-p", "no:cacheprovider"]
    if not workers.machines or workers.access is None:
        return _say_answer("this machine", [sys.executable, *command], say)
    access = workers.access
    can = [_ask(machine, access, command, say) for machine in workers.machines]
    return True in can


def mode_of(words: Sequence[str]) -> Mode:
    """The mode among the words of pytest: ``--mode plain`` or ``--mode=plain``; the last one counts."""
    joined = " ".join(words).replace("=", " ").split()
    named = next((value for name, value in reversed([*pairwise(joined)]) if name == "--mode"), "")
    return next((mode for mode in Mode if mode == named), Mode.PROTECTED)


def _ask(machine: SshTarget, access: Access, command: Sequence[str], say: Callable[[str], None]) -> bool:
    if why := problem(machine, access):
        say(f"{machine}: would be left out: {why}")
        return False
    there = f"cd {shlex.quote(str(access.checkout))} && .venv/bin/python {shlex.join(command)}"
    return _say_answer(
        str(machine), ["ssh", *access.options(), "-p", str(machine.port), f"{machine.user}@{machine.host}", there], say
    )


def _say_answer(who: str, command: Sequence[str], say: Callable[[str], None]) -> bool:
    """Ask a machine for its plan. The plan's lines about the claims are left out: they stand above, for all machines.

    :returns: whether its set-up would not fail.
    """
    try:
        done = subprocess.run(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"{who}: gave no plan within {PATIENCE} s")
        return False
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ") and not line.startswith("  claims")]
    if done.returncode:
        lines = [f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-3:]]
    for line in [f"{who}:", *lines]:
        say(line)
    return done.returncode == 0
