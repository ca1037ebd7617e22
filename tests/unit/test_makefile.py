# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Makefile makes of pytest's status, with stand-ins for the set-up and for pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from common.errors import SealproofError
from common.paths import PROJECT
from common.waiting import Deadline, poll_until


class Checkout:
    """A checkout whose Python does what it is told: ``script`` runs in its place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "host_setup").mkdir()
        (folder / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(PROJECT / "Makefile", folder)
        self.set_up("exit 0")
        self.lint("exit 0")

    def set_up(self, script: str) -> None:
        (self.folder / "host_setup" / "bootstrap.sh").write_text(script)

    def lint(self, script: str) -> None:
        (self.folder / ".ci").mkdir(exist_ok=True)
        (self.folder / ".ci" / "lint").write_text(script)

    def python(self, script: str) -> None:
        python = self.folder / ".venv" / "bin" / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)

    def make(self, *argv: str) -> tuple[int, str]:
        """Status, and both outputs."""
        env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        done = subprocess.run(
            ["make", *argv],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("flags", [(), ("-j2",), ("-s",), ("-k",), ("-sj4",), ("--no-print-directory",), ("-B",)])
@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1), (2, 2), (3, 2), (5, 2)])
def test_signoff_ends_with_the_verdict(checkout: Checkout, flags: tuple[str, ...], status: int, expected: int) -> None:
    checkout.python(f"exit {status}")
    assert checkout.make(*flags, "signoff")[0] == expected


def test_signoff_whose_set_up_failed_is_not_proven_and_runs_nothing(checkout: Checkout) -> None:
    checkout.set_up("exit 1")
    checkout.python("echo ran")
    status, output = checkout.make("signoff")
    assert status == 2
    assert "ran" not in output


def test_signoff_whose_pytest_was_killed_is_not_proven(checkout: Checkout) -> None:
    checkout.python("kill -KILL $$")
    assert checkout.make("signoff")[0] == 2


@pytest.mark.parametrize("argv", [("-i", "signoff"), ("signoff", "lint")])
def test_signoff_refuses_what_would_change_its_status(checkout: Checkout, argv: tuple[str, ...]) -> None:
    checkout.python("exit 0")
    assert checkout.make(*argv)[0] == 2


def test_signoff_asked_what_it_would_do_does_nothing(checkout: Checkout) -> None:
    checkout.python("touch ran")
    status, output = checkout.make("-n", "signoff")
    assert status == 0
    assert "-m cli signoff" in output
    assert not (checkout.folder / "ran").exists()


@pytest.mark.parametrize("goal", ["signoff", "test"])
def test_options_reach_pytest_and_makes_own_flags_do_not_reach_a_kernel_build(checkout: Checkout, goal: str) -> None:
    checkout.python('printf "<%s>" "$@"; env | grep -E "^(MAKE|MFLAGS|ARGS)"; exit 0')
    _, output = checkout.make(goal, "ARGS=-k 'a or b' --host=nested")
    assert "<-k><a or b><--host=nested>" in output
    assert "MAKE" not in output
    assert "ARGS" not in output


@pytest.mark.parametrize("goal", ["signoff", "test"])
def test_pytest_is_told_to_end_when_make_is_killed(checkout: Checkout, goal: str) -> None:
    checkout.python("trap 'echo ended >told; exit 0' TERM; echo >up; while :; do sleep 0.05; done")
    make = subprocess.Popen(["make", goal], cwd=checkout.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def lives() -> None:
        if make.poll() is not None:
            raise SealproofError(f"make ended by itself with {make.returncode}")

    poll_until((checkout.folder / "up").exists, Deadline(20), "pytest to start", check=lives)
    make.kill()
    make.wait()
    poll_until((checkout.folder / "told").exists, Deadline(20), "pytest to be told")


ALL = "<-E><-m><cli.tests><tests/unit><tests/machines><tests_e2e><--mode><protected><--series><protected-memory><-x>"


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 2), (2, 2), (5, 2)])
@pytest.mark.parametrize(("claims", "run"), [("all", ALL), ("quick", ALL.replace("<tests_e2e>", ""))])
def test_all_claims_are_tried_where_no_part_was_asked_for(
    checkout: Checkout, claims: str, run: str, status: int, expected: int
) -> None:
    checkout.python(f'printf "<%s>" "$@" >>runs; exit {status}')
    assert checkout.make("test", "ARGS=-x", *(["CLAIMS=quick"] if claims == "quick" else []))[0] == expected
    assert (checkout.folder / "runs").read_text() == run


def test_a_part_of_the_claims_that_nobody_knows_is_refused(checkout: Checkout) -> None:
    checkout.python("echo tests >>runs")
    status, output = checkout.make("test", "CLAIMS=quik")
    assert status == 2
    assert "CLAIMS is 'all' or 'quick', not 'quik'" in output
    assert not (checkout.folder / "runs").exists()


def test_the_files_are_checked_before_any_test_runs(checkout: Checkout) -> None:
    checkout.python("echo tests >>order")
    checkout.lint("echo lint >>order; [ ! -e fault ]")
    assert checkout.make("test")[0] == 0
    assert (checkout.folder / "order").read_text().split() == ["lint", "tests"]
    (checkout.folder / "fault").touch()
    assert checkout.make("test")[0] == 2
    assert (checkout.folder / "order").read_text().split()[2:] == ["lint"]
    assert checkout.make("lint")[0] == 2


def test_help_names_every_goal_that_the_readers_know(checkout: Checkout) -> None:
    _, output = checkout.make()
    for goal in ("signoff", "test", "doctor", "soak", "bench", "clean-cache", "lint", "lock"):
        assert f"make {goal} " in output


def test_pytest_gets_its_options_from_the_command_alone(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    monkeypatch.setenv("PYTEST_PLUGINS", "mine")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    checkout.python('[ "$1" = -E ] && env >environment')
    assert checkout.make("signoff")[0] == 0
    text = (checkout.folder / "environment").read_text()
    assert "PATH=" in text
    assert "PYTEST_ADDOPTS" not in text
    assert "PYTEST_PLUGINS" not in text
    assert "PYTHONOPTIMIZE" not in text
    assert "PYTHONPATH" not in text
