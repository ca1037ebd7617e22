# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff --workers N``: who gets which files, what ends all of them, and the one report of the parts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies

from cli import running, signoff, tests, workers
from common.errors import UserInputError
from common.paths import PROJECT
from common.program import INTERRUPTED
from common.waiting import Deadline, poll_until
from fleet.bundles import GUESS, bundles
from fleet.groups import Group
from host_setup.this_machine import Choice, HostKind
from signoff.evidence import read
from signoff.verdict import Status
from tests.unit.fleet_samples import CLAIMS, FIRST, SECOND, THIRD, WELL, part
from verifier.report import TrustAnchors, verify
from verifier.tree import load

HEALTH = ("tests_e2e/health/test_health.py",)
FOURTH = CLAIMS[3].id
FILES = {"tests_e2e/a.py": (FIRST, SECOND), "tests_e2e/b.py": (THIRD,), "tests_e2e/c.py": (FOURTH,)}
GROUPS = [Group(file, HEALTH, (1, 1), claims, ("-x",)) for file, claims in FILES.items()]
PROVEN = {file: dict.fromkeys(claims, Status.PASS) for file, claims in FILES.items()}


def group(number: int, claims: int = 1) -> Group:
    return Group(f"{number}.py", HEALTH, (1, 1), tuple(f"{number}-{at}" for at in range(claims)), ())


@given(strategies.lists(strategies.floats(0, 100), min_size=1, max_size=30), strategies.integers(1, 6))
def test_each_file_is_in_one_bundle_and_no_bundle_is_much_longer(takes: list[float], number: int) -> None:
    all_groups = [group(at) for at in range(len(takes))]
    seconds = {f"{at}-0": each for at, each in enumerate(takes)}
    shares = bundles(all_groups, seconds, number)
    assert sorted(file for files in shares for file in files) == sorted(each.file for each in all_groups)
    assert all(shares)
    assert len(shares) <= number
    longest = max(sum(seconds[f"{file.removesuffix('.py')}-0"] for file in files) for files in shares)
    assert longest <= sum(takes) / number + max(takes) + 1e-6


def test_a_claim_that_never_ran_here_counts_as_much_as_the_mean() -> None:
    shares = bundles([group(1), group(2), group(3, claims=2)], {"1-0": GUESS / 2, "2-0": GUESS * 3}, 2)
    assert shares == [("2.py",), ("1.py", "3.py")]


@pytest.mark.parametrize(
    ("words", "number", "rest"),
    [
        ([], 1, []),
        (["-k", "x", "--workers", "2"], 2, ["-k", "x"]),
        (["--workers=12", "-m", "quick"], 12, ["-m", "quick"]),
    ],
)
def test_the_number_of_workers_is_taken_out_of_the_words(words: list[str], number: int, rest: list[str]) -> None:
    assert workers.split_workers(words) == (number, rest)


@pytest.mark.parametrize("given_number", ["0", "-1", "two", "", "1e3", "100", "٢"])
def test_what_is_no_number_of_workers_is_refused(given_number: str) -> None:
    with pytest.raises(UserInputError, match="nor a number from 1 to 99"):
        workers.split_workers([f"--workers={given_number}"])


GIB = 1 << 30


@pytest.mark.parametrize(
    ("words", "cores", "quota", "memory", "kvm", "expected"),
    [
        ([], 2, None, 20 * GIB, False, 2),
        (["--series", "stock", "--reports=x", "-v"], 4, None, 20 * GIB, False, 4),
        ([], 64, None, 500 * GIB, False, workers.MOST),
        ([], 4, 1.5, 20 * GIB, False, 1),
        ([], 4, None, 9 * GIB, False, 2),
        ([], 1, None, 2 * GIB, False, 1),
        ([], 4, None, 20 * GIB, True, 1),
        (["--host", "emulated"], 4, None, 20 * GIB, True, 4),
        (["--host", "ssh://root@node"], 4, None, 20 * GIB, False, 1),
        (["-k", "ptrace"], 4, None, 20 * GIB, False, 1),
        (["-m", "quick"], 4, None, 20 * GIB, False, 1),
        (["--emulator", "bochs"], 4, None, 20 * GIB, False, 1),
        (["--keep-on-failure"], 4, None, 20 * GIB, False, 1),
        (["--series"], 4, None, 20 * GIB, False, 1),
    ],
)
def test_auto_is_what_pays_here(
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    cores: int,
    quota: float | None,
    memory: int,
    kvm: bool,  # noqa: FBT001
    expected: int,
) -> None:
    result = SimpleNamespace(
        processor=SimpleNamespace(cores=cores, quota=quota), memory=SimpleNamespace(available=memory)
    )
    monkeypatch.setattr(workers, "survey", lambda: result)
    kind = HostKind.NESTED if kvm else HostKind.EMULATED
    monkeypatch.setattr(workers, "choose_host_kind", lambda _: Choice(kind, "so it is"))
    assert workers.split_workers(["--workers", "auto", *words]) == (expected, words)


def test_one_worker_is_the_ordinary_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setattr("cli.tests.pytest.main", lambda: 0)
    assert signoff.main(["--workers", "1", "-m", "quick"]) == 0
    assert sys.argv == ["pytest", "tests_e2e", "-m", "quick"]


@pytest.mark.parametrize("words", [[], ["--workers", "1", "--kernel", "6.12"], ["-k", "x"]])
def test_the_ordinary_run_leaves_plugins_to_pytest(words: list[str]) -> None:
    """With Avocado came typeguard, of setuptools' own packages, and made each run "not a sign-off"."""
    text = f"""
import sys
sys.argv = ["x"]
import pytest
pytest.main = lambda: 0
from cli import signoff
signoff.main({words!r})
print(sorted({{"avocado", "pkg_resources", "signoff.plugin", "host_setup.plugin"}} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", text]
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_auto_that_means_one_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(workers, "suggest", lambda _: 1)
    monkeypatch.setattr("cli.running.run", lambda argv: ran.append(argv) or 0)
    assert signoff.main(["--workers", "auto", "-m", "quick"]) == 0
    assert ran == [tests.start(["tests_e2e", "-m", "quick"])]


def test_workers_do_not_go_with_a_mere_list() -> None:
    with pytest.raises(UserInputError, match="--collect-only"):
        signoff.main(["--workers", "2", "--collect-only"])


class Runs:
    """Stands for the runs: each leaves a part with the claims of its files."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, verdicts: dict[str, dict[str, Status]], status: int = 3
    ) -> None:
        self.argvs: list[list[str]] = []
        self._verdicts = verdicts
        self._status = status  # of a run that leaves nothing
        monkeypatch.setattr("cli.workers.groups", lambda _: GROUPS)
        monkeypatch.setattr("cli.running.run_together", self.run_together)

    def run_together(self, argvs: Sequence[Sequence[str]], say: Callable[[int, str], None]) -> list[int]:
        statuses = []
        for number, argv in enumerate(argvs):
            self.argvs.append([*argv])
            files = [word for word in argv if word in FILES]
            verdicts = {name: status for file in files for name, status in self._verdicts.get(file, {}).items()}
            say(number, f"{files[0]} .")
            say(number, "=== sealproof ===")
            say(number, "NOT PROVEN alone")
            if verdicts:
                part(Path(argv[argv.index("--reports") + 1]), number + 1, "here", {**verdicts, **WELL})
            statuses.append(2 if verdicts else self._status)
        return statuses


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "reports"


def test_two_runs_become_one_report(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs(monkeypatch, PROVEN)
    assert signoff.main(["--workers", "2", "-x", "--reports", str(reports)]) == 0
    shown = capsys.readouterr().out
    assert {word for argv in runs.argvs for word in argv if word in FILES} == {*FILES}
    assert all(argv[-4:-2] == [*HEALTH, "-x"] for argv in runs.argvs)
    assert re.search(r"^1\| tests_e2e/\w\.py \.$", shown, re.MULTILINE)
    assert "alone" not in shown
    assert re.search(r"^PROTECTED ", shown, re.MULTILINE)
    report = read((reports / "latest").resolve())
    assert report.fleet is not None
    assert len(report.fleet.parts) == 2
    assert [*report.record.durations] == ["2 runs at a time"]
    assert not [*reports.glob("workers-*")]
    assert verify(load(reports / "latest"), TrustAnchors()).faults == []


def test_a_claim_that_fails_in_one_run_fails(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, {**PROVEN, "tests_e2e/c.py": {FOURTH: Status.FAIL}})
    assert signoff.main(["--workers", "2", "--reports", str(reports)]) == 1


def test_a_run_that_leaves_no_report_is_told_and_is_no_proof(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Runs(monkeypatch, {file: verdicts for file, verdicts in PROVEN.items() if file != "tests_e2e/a.py"})
    assert signoff.main(["--workers", "2", "--reports", str(reports)]) == 2
    assert "run 1 left no report (exit 3): tests_e2e/a.py ." in capsys.readouterr().out
    document = json.loads(((reports / "latest").resolve() / "signoff.json").read_text(encoding="utf-8"))
    assert document["verdict"] == "NOT PROVEN"
    assert "2 claims were lost, as their run did not come to its end" in document["problems"]


def test_no_run_that_leaves_a_report_is_an_error(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, {})
    with pytest.raises(UserInputError, match="no part to merge"):
        signoff.main(["--workers", "2", "--reports", str(reports)])


@pytest.mark.parametrize("status", [INTERRUPTED, 128 + signal.SIGTERM])
def test_runs_that_were_told_to_end_before_their_first_claim_are_an_interrupt(
    reports: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    Runs(monkeypatch, {}, status)
    with pytest.raises(KeyboardInterrupt):
        signoff.main(["--workers", "2", "--reports", str(reports)])
    assert not [*reports.iterdir()]


@pytest.mark.parametrize("milliseconds", range(0, 400, 50))
def test_ctrl_c_while_a_run_starts_is_no_traceback(milliseconds: int) -> None:
    words = tests.start(["tests/unit/test_workers.py", "--collect-only", "-q"])
    with subprocess.Popen(
        words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        name = Path(f"/proc/{process.pid}/cmdline")
        poll_until(
            lambda: name.read_bytes().startswith(sys.executable.encode()), Deadline(30), "Python", interval=0.001
        )
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=60)
    assert "Traceback" not in output
    assert process.returncode in (0, 2, INTERRUPTED, -signal.SIGINT)


def test_programs_that_run_together_are_heard_by_their_number() -> None:
    lines: list[tuple[int, str]] = []
    commands = [["sh", "-c", f"echo out {number}; echo err >&2; exit {number}"] for number in range(3)]
    assert running.run_together(commands, lambda number, line: lines.append((number, line))) == [0, 1, 2]
    assert sorted(lines) == sorted((number, text) for number in range(3) for text in (f"out {number}", "err"))


def test_programs_that_nobody_hears_any_more_come_to_their_end() -> None:
    def say(*_: object) -> None:
        raise BrokenPipeError

    assert running.run_together([["sh", "-c", "yes | head -n 100000; exit 3"]], say) == [3]


def test_programs_that_run_together_are_all_told_to_end(tmp_path: Path) -> None:
    script = "trap 'sleep 0.2; echo >$0.ended; exit 7' TERM; echo >$0.up; while :; do sleep 0.05; done"
    commands = [["sh", "-c", script, str(tmp_path / name)] for name in ("one", "two")]
    text = f"from cli.running import run_together; print(run_together({commands!r}, print))"
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    poll_until(lambda: len([*tmp_path.glob("*.up")]) == 2, Deadline(20), "both to start")
    parent.send_signal(signal.SIGTERM)
    assert parent.communicate(timeout=20)[0] == "[7, 7]\n"
    assert len([*tmp_path.glob("*.ended")]) == 2
