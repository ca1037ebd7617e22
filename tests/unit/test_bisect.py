# SPDX-License-Identifier: GPL-2.0-or-later
"""``bisect`` and ``try`` from end to end, with toy kernels and runs of claims that are not there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from common.errors import SetupError, UserInputError
from common.paths import PROJECT
from common.progress import Terminal
from common.store import Store
from host_setup import claim_runs
from host_setup.bisect import __main__ as command
from host_setup.bisect import attempt
from host_setup.bisect.attempt import BAD, GOOD, NEITHER, STOP, Observation, vote_of
from host_setup.bisect.notes import Note, Notes
from host_setup.bisect.search import Vote, WrongEndError
from host_setup.claim_runs import ClaimRun, claim_tests
from host_setup.kernel import build, series, source
from host_setup.kernel.build import Request
from tests.unit.test_bisect_steps import commit, git, state
from tests.unit.test_kernel_build import MERGE
from tests.unit.test_rolling_build import INCREMENTAL

CLAIM = "host_cannot_read_private_page_by_proc_pid_mem"
FILE = "mm/memory.c"


def entry(status: str, why: str = "") -> dict[str, Any]:
    return {
        "id": CLAIM, "command": "pytest", "kind": "attack", "status": status, "why": why, "expected": "nothing leaks",
        "observed": f"observed {status}", "control": "the canary", "shared": "", "seconds": 1.5,
    }  # fmt: skip


def claim_run(
    status: str, why: str = "", *, problems: Sequence[str] = (), late: str = "", message: str = ""
) -> ClaimRun:
    return ClaimRun({"claims": [entry(status, why)], "problems": list(problems)}, Path("/run"), late, message)


# --- what a run says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "harm", "vote", "why"),
    [
        (claim_run("PASS"), False, Vote.GOOD, ""),
        (claim_run("FAIL", "leaked 4096 bytes"), False, Vote.BAD, "leaked 4096 bytes"),
        (
            claim_run("FAIL", "the probe did harm: the host: kernel died"),
            False,
            Vote.NOT_PROVEN,
            "FAIL: the probe did harm",
        ),
        (claim_run("FAIL", "the probe did harm: the host: kernel died"), True, Vote.BAD, "the probe did harm"),
        (claim_run("ERROR", "no answer"), True, Vote.NOT_PROVEN, "ERROR: no answer"),
        (claim_run("MISS", "no control"), False, Vote.NOT_PROVEN, "MISS: no control"),
        (claim_run("SKIP", "no vfio"), False, Vote.NOT_PROVEN, "SKIP: no vfio"),
        (claim_run("PASS", problems=["the set-up failed: x"]), False, Vote.NOT_PROVEN, "the set-up failed: x"),
        (claim_run("PASS", late="not done within 3 s"), False, Vote.NOT_PROVEN, "not done within 3 s"),
        (ClaimRun(None, None, "", "! Exit: the set-up failed: panic !\n"), False, Vote.NOT_PROVEN, "panic"),
        (ClaimRun(None, None, "not done within 3 s", ""), False, Vote.NOT_PROVEN, "not done within 3 s"),
        (ClaimRun(None, None, "", ""), False, Vote.NOT_PROVEN, "it printed nothing"),
        (ClaimRun({"claims": [], "problems": []}, None, "", "no tests ran"), False, Vote.NOT_PROVEN, "no tests ran"),
    ],
)
def test_only_a_pass_is_good_and_only_what_was_looked_for_is_bad(run: Any, harm: Any, vote: Any, why: Any) -> None:
    result, words, _ = vote_of(CLAIM, run, harm=harm)
    assert result is vote
    assert why in words


# --- kernels ----------------------------------------------------------------------------------------------------------


def toy(folder: Path) -> None:
    for name in ("mm", "scripts/kconfig", "include", "arch/x86/include"):
        (folder / name).mkdir(parents=True)
    (folder / "Makefile").write_text(INCREMENTAL)
    (folder / FILE).write_text("int memory = 1;\n")
    (folder / "include/mm.h").write_text("\n")
    (folder / "scripts/kconfig/merge_config.sh").write_text(MERGE)


@dataclass
class Hosts:
    """Runs of claims on toy kernels: what a kernel's memory holds decides.

    :ivar tried: that, for each run. :ivar lies: by the number of a run. :ivar at_run: called with its number.
    """

    first_bad: int
    tried: list[int] = field(default_factory=list)
    lies: dict[int, ClaimRun] = field(default_factory=dict)
    at_run: Callable[[int], None] = lambda _: None

    def __call__(self, nodes: Sequence[str], words: Sequence[str], cache: Store, reports: Path, log: Path) -> ClaimRun:
        assert nodes == [claim_tests(PROJECT)[CLAIM]]
        assert reports.is_dir()
        option = dict(zip(words[::2], words[1::2], strict=True))
        # As pytest does it with these options.
        request = Request(source.resolve(Path(option["--kernel"]), cache), series.load(option["--series"]))
        assert cache.get("kernel", build.key(request, request.toolchain.version())), "pytest would build it once more"
        kernel = build.build(request, cache, Terminal())
        binary = log.with_name("data")
        subprocess.run(["objcopy", "-O", "binary", "-j", ".data", kernel.vmlinux, binary], check=True)
        built_number = int.from_bytes(binary.read_bytes()[:4], "little")
        number = len(self.tried)
        self.tried.append(built_number)
        self.at_run(number)
        if number in self.lies:
            return self.lies[number]
        outcome = (
            claim_run("FAIL", f"leaked {built_number}")
            if built_number >= self.first_bad
            else claim_run("PASS", "refused")
        )
        return ClaimRun(outcome.report, reports / "run", "", "")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    hosts = Hosts(6)
    monkeypatch.setattr("host_setup.kernel.kept_build.NEEDS", 0)
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    monkeypatch.setattr(attempt, "run_claims", hosts)
    return hosts


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with ten kernels, whose memory holds 1 to 10; the eighth does not compile."""
    folder = tmp_path / "tree"
    toy(folder)
    git(folder, "init", "--quiet")
    for number in range(1, 11):
        (folder / FILE).write_text(f"int memory = {number if number != 8 else 'nothing'};\n")
        commit(folder, f"kernel {number}")
    return folder


def words(tree: Path, tmp_path: Path, *more: str) -> list[str]:
    return [
        CLAIM, "--kernel", str(tree), "--series", "stock", "--host", "emulated", "--cache-folder",
        str(tmp_path / "cache"), "--folder", str(tmp_path / "reports"), *more,
    ]  # fmt: skip


def nothing_is_left(tmp_path: Path) -> bool:
    folder = tmp_path / "cache/kept/bisect"
    return not any((folder / "cache" / kind).exists() for kind in ("kernel", "module", "snapshot", "scratch"))


def test_the_first_bad_commit_is_told_with_both_observations(
    hosts: Hosts, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(tree)
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9")) == command.ONE_FOUND
    assert state(tree) == before
    text = capsys.readouterr().out
    short = git(tree, "rev-parse", "--short", "HEAD~4")
    assert f"the first bad one: {short} kernel 6" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["status", "PASS", "FAIL"] in rows
    assert ["why", "refused", "leaked", "6"] in rows
    assert ["observed", "observed", "PASS", "observed", "FAIL"] in rows
    assert ["seen", "2", "times", "good", "2", "times", "bad"] in rows
    assert (tmp_path / "reports" / CLAIM / "answer.txt").read_text() in text.replace("\r", "")
    facts = json.loads((tmp_path / "reports" / CLAIM / "answer.json").read_text())
    assert list(facts["suspects"].values()) == [f"{short} kernel 6"] and facts["flaky"] == {}
    assert (facts["bad"]["id"], facts["bad"]["status"]) == (git(tree, "rev-parse", "HEAD~4"), "FAIL")
    assert (facts["last_good"]["step"].split()[-1], facts["last_good"]["status"]) == ("5", "PASS")
    assert nothing_is_left(tmp_path)
    assert 8 not in hosts.tried
    assert len(list((tmp_path / "cache/kept/bisect/trees").glob("plain-*"))) == 1


def test_a_search_that_was_ended_goes_on_and_builds_nothing_twice(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    def interrupt(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt

    hosts.at_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        command.main(words(tree, tmp_path, "--good", "HEAD~9"))
    assert nothing_is_left(tmp_path)
    hosts.at_run = lambda _: None
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9")) == command.ONE_FOUND
    notes = Notes(tmp_path / "reports" / CLAIM / "observations.jsonl")._notes
    runs = [note for note in notes if note.seen.vote is not Vote.NOT_BUILT]
    assert len(hosts.tried) == len(runs) + 1, "one was not finished, the others count"
    assert max(hosts.tried.count(number) for number in hosts.tried if number != hosts.tried[4]) == 2
    hosts.tried.clear()
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9")) == command.ONE_FOUND
    assert hosts.tried == []
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9", "--afresh")) == command.ONE_FOUND
    assert hosts.tried


def test_what_does_not_build_leaves_a_range(
    hosts: Hosts, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.first_bad = 8
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9")) == command.SEVERAL_FOUND
    text = capsys.readouterr().out
    assert "the first bad one is among these 2:" in text
    assert "kernel 8 (does not build: the code does not build)" in text
    assert "kernel 9\n" in text


def test_a_step_that_errs_once_is_tried_again(
    hosts: Hosts, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.lies = {2: claim_run("FAIL", "a flake"), 3: claim_run("ERROR", "no answer")}
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9")) == command.ONE_FOUND
    text = capsys.readouterr().out
    assert "kernel 6\n" in text.partition("the first bad one: ")[2][:30]
    assert "flaky: " in text


@pytest.mark.parametrize(
    ("first", "words_of"),
    [(99, "the bad end is good: .* kernel 10: refused"), (1, "the good end is bad: .* kernel 1: leaked 1")],
)
def test_a_wrong_end_is_one_line(hosts: Hosts, tree: Path, tmp_path: Path, first: int, words_of: str) -> None:
    hosts.first_bad = first
    with pytest.raises(WrongEndError, match=words_of) as raised:
        command.main(words(tree, tmp_path, "--good", "HEAD~9"))
    assert "\n" not in raised.value.message


def test_the_same_code_is_tried_once(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    for number in range(20):
        (tree / "include/mm.h").write_text(f"/* {number} */\n")
        commit(tree, f"comment {number}")
    (tree / FILE).write_text("int memory = 3; /* the same again */\n")
    git(tree, "checkout", "--quiet", "--detach", "HEAD~20")
    head = git(tree, "rev-parse", "HEAD@{1}")
    assert command.main(words(tree, tmp_path, "--good", "HEAD~9", "--bad", head)) == command.ONE_FOUND
    assert max(hosts.tried.count(number) for number in hosts.tried) == 2


def test_the_first_bad_patch_of_a_series_is_found(
    hosts: Hosts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, folder = tmp_path / "plain", tmp_path / "my-series"
    toy(tree)
    folder.mkdir()
    (folder / "series.toml").write_text('title = "t"\nbase = ">=6.12"\nmode = "protected"\ndescription = "d"\n')
    for number in range(1, 13):
        (folder / f"{number:04}-p.patch").write_text(
            f"--- a/{FILE}\n+++ b/{FILE}\n@@ -1 +1 @@\n-int memory = {number};\n+int memory = {number + 1};\n"
        )
    argv = words(tree, tmp_path, "--good", "2", "--bad", "12", "--series", str(folder))
    assert command.main(argv) == command.ONE_FOUND
    text = capsys.readouterr().out
    assert "the first bad one: 5 of 12 patches: 0005-p.patch" in text
    assert "4 of 12 patches: 0004-p.patch" in text
    assert f"--series={folder} --kernel={tree} --at=5" in text
    assert set(hosts.tried) <= set(range(3, 14))


# --- try --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "status"), [("HEAD~9", GOOD), ("HEAD~2", NEITHER), ("HEAD", BAD)])
def test_try_says_it_as_git_bisect_takes_it(
    hosts: Hosts, tree: Path, tmp_path: Path, at: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["try", *words(tree, tmp_path, "--at", at)]) == status
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith(CLAIM)
    assert len(hosts.tried) == {GOOD: 1, NEITHER: 0, BAD: 2}[status]
    assert nothing_is_left(tmp_path)


def test_try_takes_the_tree_as_it_lies_there(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    (tree / FILE).write_text("int memory = 3;\n")
    assert attempt.main(words(tree, tmp_path)) == GOOD
    assert hosts.tried == [3]


def test_git_bisect_run_finds_it(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    """By git itself; the kernels are built in this process, as the runs of claims are its own."""
    git(tree, "bisect", "start", "HEAD", "HEAD~9")
    for _ in range(8):
        status = attempt.main(words(tree, tmp_path))
        verb = {GOOD: "good", BAD: "bad", NEITHER: "skip"}[status]
        if "is the first bad commit" in git(tree, "bisect", verb):
            break
    assert "kernel 6" in git(tree, "log", "-1", "--format=%s", "refs/bisect/bad")
    assert git(tree, "status", "--porcelain") == ""
    assert set(hosts.tried) <= set(range(2, 10))


@pytest.mark.parametrize(
    "argv",
    [
        ["no_such_claim"],
        [CLAIM, "--kernel", "/nonexistent"],
        [CLAIM, "--series", "no-such-series"],
        [CLAIM, "--no-such-option"],
        [CLAIM, "--times", "0"],
        [],
    ],
)
def test_what_is_no_fault_of_the_kernel_stops_git_bisect(
    hosts: Hosts, tree: Path, tmp_path: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = words(tree, tmp_path)[1:] if argv and "--kernel" not in argv and "--series" not in argv else []
    cache = ["--cache-folder", str(tmp_path / "cache"), "--folder", str(tmp_path / "r")]
    assert attempt.main([*argv[:1], *more, *(cache if argv else []), *argv[1:]]) == STOP
    assert capsys.readouterr().err
    assert hosts.tried == []


@pytest.mark.parametrize("argv", [["try"], ["try", "no_such_claim"], ["try", CLAIM, "--host", "none"]])
def test_the_command_itself_says_so_too(argv: list[str]) -> None:
    words = [sys.executable, "-m", "host_setup.bisect", *argv]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (STOP, "")
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_no_verdict(
    hosts: Hosts, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(attempt, "run_claims", fail)
    assert attempt.main(words(tree, tmp_path)) == STOP
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert nothing_is_left(tmp_path)
    assert hosts.tried == []


def test_two_do_not_share_the_folder(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache/kept/bisect"
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        assert attempt.main(words(tree, tmp_path)) == STOP
        with pytest.raises(SetupError, match="at work"):
            command.main(words(tree, tmp_path, "--good", "HEAD~9"))
    assert hosts.tried == []


def test_a_report_of_an_earlier_run_is_not_taken_for_this_one(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    old = tmp_path / "reports" / CLAIM / "runs" / f"{git(tree, 'rev-parse', 'HEAD')[:12]}-1" / "99991231T000000Z-x"
    old.mkdir(parents=True)
    assert command.main(words(tree, tmp_path, "--good", "HEAD~5")) == command.ONE_FOUND
    assert not old.exists()
    assert hosts.tried


def test_a_claim_that_is_not_there_is_told(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    argv = ["host_can_fly", *words(tree, tmp_path)[1:]]
    with pytest.raises(UserInputError, match="there is no claim host_can_fly"):
        command.main(argv)
    assert hosts.tried == []


def test_a_kernel_that_the_user_has_is_not_built_again(hosts: Hosts, tree: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    request = Request(source.resolve(tree, store), series.load("stock"))
    store.get_or_make("kernel", build.key(request, request.toolchain.version()), lambda folder: (folder / "x").touch())
    shop = attempt.Workshop(store, CLAIM, Terminal())
    cache, _ = shop._provide(request, build.key(request, request.toolchain.version()))
    assert cache is store
    assert not (tmp_path / "cache/kept/bisect/build").exists()
    assert hosts.tried == []


# --- a run of claims --------------------------------------------------------------------------------------------------


def test_the_claims_are_called_from_anywhere_and_end_with_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    real = claim_runs.spawn

    def spawn(argv: list[str], **more: Any) -> Any:
        called.append(argv)
        return real(["sleep", "1000"], **more)

    monkeypatch.setattr(claim_runs, "spawn", spawn)
    monkeypatch.chdir(tmp_path)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            claim_runs.run_claims(["tests_e2e/a.py::test_a"], [], Store(tmp_path), tmp_path / "r", tmp_path / "log")
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - begun < 60
    assert called[0][0] == sys.executable
    assert str(PROJECT / "tests_e2e/a.py::test_a") in called[0]
    assert called[0][called[0].index("--reports") + 1] == str(tmp_path / "r")


# --- notes ------------------------------------------------------------------------------------------------------------


def test_notes_outlive_a_writer_that_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    observation = Observation(Vote.BAD, "leaked", {"status": "FAIL"}, "/run", 1.0, 2.0, "key", "code")
    Notes(file).add(Note("a", "5", observation))
    with file.open("a") as out:
        out.write('{"identity": "a", "st')
    notes = Notes(file)
    assert notes.of("a") == [observation] and notes.of("b") == []
    notes.add(Note("b", "6", observation))
    with pytest.raises(UserInputError, match="line 2"):
        Notes(file)
    notes.forget()
    assert Notes(file).of("a") == []
    assert json.loads(file.with_name("notes.old").read_text().splitlines()[0])["step"] == "5"
