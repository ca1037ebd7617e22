# SPDX-License-Identifier: GPL-2.0-or-later
"""The history's file: what it keeps, refuses and hands out, by whomever it is written and whenever it is killed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SealproofError, SetupError, UserInputError
from common.paths import PROJECT
from common.waiting import Deadline, poll_until
from history.__main__ import command_parsers, main
from history.database import APPLICATION, Attempt, History, Night
from history.model import Place, Run, read_report
from signoff.verdict import Status
from tests.unit.history_samples import claim, claim_not_tried, document, kill_run, run_id, sha, write

OF_NIGHT = Place(night=run_id(0), cell="series=a", number=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "below/history.sqlite"


def keep_run(folder: Path, number: int = 1, place: Place | None = None, **changes: Any) -> Run:
    claims = changes.pop("claims", None) or [claim("guest_works"), claim_not_tried("guest_sleeps")]
    return read_report(write(folder, document(run_id(number), claims, **changes)), place)


# --- a report is read -------------------------------------------------------------------------------------------------


def test_a_run_is_kept_as_it_was(tmp_path: Path, file: Path) -> None:
    run = keep_run(tmp_path, place=OF_NIGHT)
    with History(file) as history:
        assert history.add(run)
    with History(file) as history:
        assert history.find("latest") == run == history.find(run.id) == history.runs(OF_NIGHT.cell)[0]
        assert history.of_claim("guest_works") == [run]
        assert history.claims() == ["guest_sleeps", "guest_works"]
        assert history.statuses(run.identity) == {"guest_works": frozenset({Status.PASS})}


def test_only_what_was_tried_counts_and_of_a_run_that_was_killed_only_a_failure(tmp_path: Path) -> None:
    claims = [claim("works"), claim("fails", Status.FAIL), claim("breaks", Status.ERROR), claim_not_tried("waits")]
    whole = read_report(write(tmp_path / "a", document(run_id(1), claims)))
    dead = read_report(write(tmp_path / "b", kill_run(document(run_id(1), claims))))
    stopped = document(run_id(1), claims, summary="The run was interrupted. A claim had already failed.")
    given_up = document(run_id(1), claims, problems=["the set-up failed: wait: waited 10 s"])
    assert set(read_report(write(tmp_path / "d", given_up)).counted) == {"fails"}
    assert set(whole.counted) == {"works", "fails", "breaks"}
    assert dead.cut_short
    assert set(dead.counted) == {"fails"} == set(read_report(write(tmp_path / "c", stopped)).counted)


def _other_kernel(report: dict[str, Any]) -> None:
    report["kernel"]["image_sha256"] = sha("other")


def _other_patch(report: dict[str, Any]) -> None:
    report["kernel"]["patches"][0]["sha256"] = sha("other")


def _other_emulator(report: dict[str, Any]) -> None:
    report["made_of"]["emulator"] = sha("other")


def _other_processor(report: dict[str, Any]) -> None:
    report["host"]["cpu"] = "other"


def _other_contract(report: dict[str, Any]) -> None:
    report["contract"]["sha256"] = sha("other")


def _other_mode(report: dict[str, Any]) -> None:
    report["mode"] = "plain"


@pytest.mark.parametrize(
    "change", [_other_kernel, _other_patch, _other_emulator, _other_processor, _other_contract, _other_mode]
)
def test_another_input_is_another_identity(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = document(run_id(1), [claim("works")])
    first_run = read_report(write(tmp_path / "a", report))
    change(report)
    two = read_report(write(tmp_path / "b", report))
    assert first_run.identity
    assert first_run.identity != two.identity


def test_what_each_start_of_a_host_measures_anew_is_no_input(tmp_path: Path) -> None:
    words = "console=ttyS0 lpj=2"
    runs = [
        keep_run(tmp_path / name, host={"command line": f"{words} tsc_early_khz={khz}", "started": how})
        for name, khz, how in (("a", 2000001, "cold"), ("b", 1999998, "restored"))
    ]
    assert runs[0].inputs == runs[1].inputs
    assert runs[0].inputs["host: command line"] == words
    assert runs[0].identity == runs[1].identity


def test_runs_on_a_host_that_was_never_reached_are_of_unknown_inputs(tmp_path: Path) -> None:
    assert keep_run(tmp_path, kernel="k", claims=[claim_not_tried("works")]).identity
    report = document(run_id(2), [claim_not_tried("works")])
    assert read_report(write(tmp_path, {**report, "kernel": None, "tier": None})).identity == ""


def _nothing(_: dict[str, Any]) -> str:
    return ""


def _not_json(_: dict[str, Any]) -> str:
    return "{"


def _deep(_: dict[str, Any]) -> str:
    return "[" * 200_000


def _older(report: dict[str, Any]) -> str:
    return json.dumps({**report, "schema": "sealproof-signoff-3\x1b[2J"})


def _list(_: dict[str, Any]) -> str:
    return "[]"


def _more(report: dict[str, Any]) -> str:
    return json.dumps({**report, "more": 1})


def _not_a_number(report: dict[str, Any]) -> str:
    report["claims"][0]["seconds"] = float("nan")
    return json.dumps(report)


def _infinite(report: dict[str, Any]) -> str:
    report["claims"][0]["seconds"] = float("inf")
    return json.dumps(report)


def _twice(report: dict[str, Any]) -> str:
    report["claims"] *= 2
    return json.dumps(report)


def _climbs(report: dict[str, Any]) -> str:
    report["run"]["id"] = "../../etc"
    return json.dumps(report)


@pytest.mark.parametrize(
    "change", [_nothing, _not_json, _deep, _older, _list, _more, _not_a_number, _infinite, _twice, _climbs]
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, change: Callable[[dict[str, Any]], str]) -> None:
    report = document(run_id(1), [claim("works")])
    (tmp_path / "signoff.json").write_text(change(report), encoding="utf-8")
    with pytest.raises(UserInputError, match="is not a report") as error:
        read_report(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_run_without_reports_is_told_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="has no signoff"):
        read_report(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserInputError, match=r"\./sealproof report"):
        read_report(tmp_path)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_report_is_kept_once_and_a_changed_one_is_refused(tmp_path: Path, file: Path) -> None:
    run = keep_run(tmp_path / "a")
    changed = keep_run(tmp_path / "b", claims=[claim("guest_works", Status.FAIL)])
    with History(file) as history:
        assert [history.add(run), history.add(run)] == [True, False]
        with pytest.raises(UserInputError, match="another report of run"):
            history.add(changed)
        assert history.runs() == [run]


def test_a_run_is_found_by_the_beginning_of_its_id_alone(tmp_path: Path, file: Path) -> None:
    with History(file) as history:
        with pytest.raises(UserInputError, match="no run latest"):
            history.find("latest")
        first_run, two = (keep_run(tmp_path, number) for number in (1, 2))
        history.add(two)
        history.add(first_run)
        assert history.find("latest") == two
        assert history.find(first_run.id[:14]) == first_run
        for word, words in (("2026", "more than one"), ("", "no run"), ("%", "no run"), ("_", "no run")):
            with pytest.raises(UserInputError, match=words):
                history.find(word)


def test_what_is_no_history_is_left_as_it_is(tmp_path: Path) -> None:
    text, other, newer = tmp_path / "text", tmp_path / "other", tmp_path / "newer"
    text.write_text("SQLite format, not\n" * 100)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE a (b)")
    with sqlite3.connect(newer) as database:
        database.execute("CREATE TABLE a (b)")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute("PRAGMA user_version = 99")
    for path, kind, words in (
        (text, SetupError, "cannot be used"),
        (other, UserInputError, "not a history of sealproof"),
        (newer, UserInputError, "newer sealproof"),
    ):
        before = path.read_bytes()
        with pytest.raises(kind, match=words):
            History(path)
        assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SealproofError) as error:
        History(tmp_path / "file/history.sqlite")
    assert "Not a directory" in str(error.value) or "File exists" in str(error.value)
    assert error.value.hint == "name another file with --history FILE"


FULL_DISK = """
import os, sys
from pathlib import Path
from common.errors import NoSpaceError
from history.database import History
from history.model import read_report
disk, reports, left = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()), int(sys.argv[3])

def fill():
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left)))

def tried(what):
    try:
        what()
    except NoSpaceError as error:
        print(error)

def add(*runs):
    with History(disk / "history") as history:
        for one in runs:
            history.add(read_report(one))

def kept():
    with History(disk / "history") as history:
        return len(history.runs())

if left % 2:
    add(reports[0])
fill()
tried(lambda: add(*reports))
(disk / "filler").unlink()
some = kept()
fill()
tried(lambda: add(*reports))
(disk / "filler").unlink()
assert kept() >= some >= left % 2
add(*reports)
print(kept(), "kept")
"""


def test_an_export_leaves_links_and_what_is_no_file_as_they_are(tmp_path: Path) -> None:
    """A device or a pipe in its place would be gone for all programs, and so would the link."""
    with History(tmp_path / "h.sqlite"):
        pass
    words = ["export", "--history", str(tmp_path / "h.sqlite")]
    link, target, pipe = (tmp_path / name for name in ("link", "elsewhere.jsonl", "pipe"))
    link.symlink_to(target.name)
    assert main([*words, str(link)]) == 0
    assert (link.is_symlink(), target.is_file()) == (True, True)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main([*words, str(pipe)]) == 0
    assert (pipe.is_fifo(), os.read(reader, 1 << 16)) == (True, target.read_bytes())
    os.close(reader)
    assert not [*tmp_path.glob(".*")]


def test_a_file_system_without_room_at_all_is_not_said_to_be_full() -> None:
    with pytest.raises(SetupError, match="cannot be used"):
        History(Path("/proc/history.sqlite"))


@pytest.mark.parametrize("free_bytes", [0, 1, 4096, 20000, 60001])
def test_a_disk_that_is_full_is_said_and_costs_no_run(tmp_path: Path, free_bytes: int) -> None:
    """Whatever of SQLite's files it is for which no space is left."""
    disk, reports = tmp_path / "disk", tmp_path / "reports"
    disk.mkdir()
    for number in range(60):
        write(reports, document(run_id(number), [claim(f"guest_{number}") for number in range(99)]))
    program = shlex.join([sys.executable, "-c", FULL_DISK, str(disk), str(reports), str(free_bytes)])
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", f"mount -t tmpfs -o size=8m none {disk} && {program}"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip("no namespaces here")
    output = done.stdout.splitlines()
    assert output.pop() == "60 kept", done.stdout + done.stderr
    assert len(output) == 4
    assert output[0] == output[2] == f"disk: no space left for {disk}/history: 0.0 GiB free"
    assert output[1].endswith("or point --history to a larger disk")
    assert output[1] == output[3]


WRITER = """
import sys
from pathlib import Path
from history.database import History
from history.model import read_report
for number, folder in enumerate(sorted(Path(sys.argv[2]).iterdir())):
    with History(Path(sys.argv[1])) as history:
        history.add(read_report(folder))
    print(number, flush=True)
"""


def writer(file: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(folder)], cwd=PROJECT, stdout=subprocess.PIPE)


def test_two_writers_lose_nothing(tmp_path: Path, file: Path) -> None:
    for name, numbers in (("a", range(1, 26)), ("b", range(26, 51))):
        for number in numbers:
            write(tmp_path / name, document(run_id(number), [claim("works")]))
    both = [writer(file, tmp_path / name) for name in "ab"]
    for process in both:
        process.communicate()
        assert process.returncode == 0
    with History(file) as history:
        assert [run.id for run in history.runs()] == [run_id(number) for number in range(1, 51)]


def test_a_history_that_another_writer_makes_meanwhile_is_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = History._number

    def slow(history: History, pragma: str) -> int:
        value = number(history, pragma)
        with monkeypatch.context() as quick:
            quick.setattr(History, "_number", number)
            History(file).__exit__()
        return value

    monkeypatch.setattr(History, "_number", slow)
    with History(file) as history:
        assert history.runs() == []


def test_a_writer_waits_for_another_that_has_the_new_file(file: Path) -> None:
    file.parent.mkdir()
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    with History(file) as history:
        assert list(history.runs()) == []
    other.close()


@pytest.mark.parametrize("after", [1, 3, 8])
def test_a_writer_that_is_killed_leaves_whole_runs_and_no_lock(tmp_path: Path, file: Path, after: int) -> None:
    for number in range(1, 40):
        write(tmp_path / "a", document(run_id(number), [claim(f"works_{number}") for number in range(50)]))
    dead = writer(file, tmp_path / "a")
    for _ in range(after):
        assert dead.stdout.readline()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    with History(file) as history:
        runs = history.runs()
        assert len(runs) >= after
        for run in runs:
            assert len(history._rows("SELECT * FROM result WHERE run = ?", run.id)) == 50
        assert history.add(keep_run(tmp_path, 99))


def test_a_writer_waits_for_another_one(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(file):
        pass
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write(tmp_path / "a", document(run_id(1), [claim("works")]))
    waiting = writer(file, tmp_path / "a")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=1.5)
    other.execute("COMMIT")
    other.close()
    assert waiting.wait(timeout=60) == 0
    monkeypatch.setattr("history.database.PATIENCE", 0.1)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with History(file) as history, pytest.raises(SetupError, match="locked"):
        history.add(keep_run(tmp_path, 2))
    other.close()


def test_a_change_shuts_other_writers_out_before_it_has_written(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.database.PATIENCE", 0.1)
    with History(file) as history, History(file) as two:
        with history._change(), pytest.raises(SetupError, match="locked"):
            two.add(keep_run(tmp_path, 1))
        assert two.add(keep_run(tmp_path, 2))


# --- export and import ------------------------------------------------------------------------------------------------


def fill_disk(folder: Path, file: Path) -> None:
    with History(file) as history:
        history.add(keep_run(folder, 1, claims=[claim("guest_works", Status.FAIL)]))
        night = Night(id=OF_NIGHT.night, started="2026-11-01T00:00:00Z", matrix=sha("m"), cells=(OF_NIGHT.cell,))
        history.put_night(night)
        attempt = Attempt(
            night=night.id, cell=OF_NIGHT.cell, number=1, started=night.started, folder="x", run=run_id(2)
        )
        history.put_attempt(attempt, keep_run(folder, 2, OF_NIGHT))


def lines(file: Path) -> list[str]:
    with History(file) as history:
        return list(history.export())


def test_an_export_makes_the_same_history_again(tmp_path: Path, file: Path) -> None:
    fill_disk(tmp_path, file)
    out, copy = tmp_path / "out.jsonl", tmp_path / "copy.sqlite"
    assert main(["export", "--history", str(file), str(out)]) == 0
    assert main(["import", "--history", str(copy), str(out)]) == 0
    assert main(["import", "--history", str(copy), str(out)]) == 0
    assert lines(copy) == lines(file) == out.read_text().splitlines()
    assert len(lines(copy)) == 5
    assert not list(tmp_path.glob(".out*"))


def _cut(text: str) -> str:
    return text[:-40]


def _no_head(text: str) -> str:
    return text.partition("\n")[2]


def _other_format(text: str) -> str:
    return text.replace("sealproof-history-1", "sealproof-history-9", 1)


def _two_in_a_line(text: str) -> str:
    return text + text.splitlines()[-1].rstrip("}") + ', "night": null}\n'


def _control(text: str) -> str:
    return text.replace('"guest_works"', '"guest\\u001b[2Jworks"')


def _unknown(text: str) -> str:
    return text.replace('"sha256":', '"more": 1, "sha256":', 1)


def _status(text: str) -> str:
    return text.replace('"status":"FAIL"', '"status":"GOOD"')


def _contradicts(text: str) -> str:
    return text + re.sub(r'"sha256":"..', '"sha256":"zz', text.splitlines()[2]).replace("zz", "00") + "\n"


def _negative(text: str) -> str:
    return text.replace('"seconds":1.0', '"seconds":-1.0', 1)


def _endless(text: str) -> str:
    return text.replace('"seconds":1.0', '"seconds":1e999', 1)


def _no_night(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith('{"night"')) + "\n"


def _empty(_: str) -> str:
    return ""


@pytest.mark.parametrize(
    "change",
    [
        *(_cut, _no_head, _other_format, _two_in_a_line, _control, _unknown, _status, _contradicts, _negative),
        *(_endless, _no_night, _empty),
    ],
)
def test_a_strangers_export_that_is_not_right_adds_nothing(
    tmp_path: Path, file: Path, change: Callable[[str], str]
) -> None:
    fill_disk(tmp_path, file)
    text = "".join(f"{line}\n" for line in lines(file))
    assert change(text) != text
    (tmp_path / "in").write_text(change(text), encoding="utf-8")
    copy = tmp_path / "copy.sqlite"
    with pytest.raises(UserInputError) as error:
        main(["import", "--history", str(copy), str(tmp_path / "in")])
    assert len(str(error.value)) < 700
    assert lines(copy) == lines(tmp_path / "fresh.sqlite")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_an_import(data: bytes) -> None:
    import tempfile  # noqa: PLC0415  hypothesis takes no fixture of a function

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "in").write_bytes(data)
        with pytest.raises(SealproofError):
            main(["import", "--history", str(path / "h.sqlite"), str(path / "in")])


def test_an_import_says_more_of_no_night_than_is_known_here(tmp_path: Path, file: Path) -> None:
    fill_disk(tmp_path, file)
    old = lines(file)
    with History(file) as history:
        night = history.nights()[0].model_copy(update={"ended": "2026-11-01T05:00:00Z"})
        history.put_night(night)
        assert history.take(old) == (0, 2)
        assert history.nights() == [night]


def test_a_line_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.database.LONGEST_LINE", 1000)
    monkeypatch.setattr("history.__main__.LONGEST_LINE", 1000)
    (tmp_path / "in").write_text('{"format": "sealproof-history-1"}\n' + "x" * 100_000)
    with pytest.raises(UserInputError, match="line 2 cannot be used: it has more than"):
        main(["import", "--history", str(tmp_path / "h"), str(tmp_path / "in")])


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command here: status, standard output, and what an error says."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def run_command(*words: str) -> tuple[int, str, str]:
        try:
            status, wrong = main([*words]), ""
        except SealproofError as error:
            status, wrong = 2, str(error)
        except SystemExit as end:
            status, wrong = int(end.code or 0), ""
        return status, capsys.readouterr().out, wrong

    return run_command


def program(*words: str, folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "history", *words],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_runs_are_recorded_below_the_home_and_named_by_what_became_of_their_claims(tmp_path: Path, run: Any) -> None:
    first = write(tmp_path / "r", document(run_id(1), [claim("works"), claim("sleeps")]))
    second = write(
        tmp_path / "r", document(run_id(2), [claim("works", Status.FAIL), claim("sleeps")], kernel="6.12.118")
    )
    assert run("compare", str(first), str(second))[0] == 1
    assert run("compare", "latest", str(second))[0] == 2
    assert run("record", str(first), str(second))[0] == 0
    assert (tmp_path / ".local/state/sealproof/history.sqlite").is_file()
    status, output, _ = run("compare", run_id(1), "latest")
    assert status == 1
    assert "regressed       works\n                PASS -> FAIL: it is FAIL: expected 4, got 5\n" in output
    assert "  kernel: 6.12.117 -> 6.12.118\n" in output
    assert "exit 1: 1 claim regressed" in output
    assert run("compare", "latest", str(first))[0] == 0
    status, output, _ = run("history", "works")
    assert status == 0
    assert "kernel: 6.12.117 -> 6.12.118" in output
    status, _, output = run("claim", "work")
    assert status == 2
    assert "did you mean: works" in output


def test_runs_of_which_less_was_tried_are_not_compared_without_asking(tmp_path: Path, run: Any) -> None:
    whole = write(tmp_path, document(run_id(1), [claim("works"), claim("sleeps")]))
    part = write(tmp_path, document(run_id(2), [claim("works"), claim_not_tried("sleeps")]))
    none = write(tmp_path, kill_run(document(run_id(3), [claim("works"), claim("sleeps")])))
    plain = write(tmp_path, document(run_id(4), [claim("works")], mode="plain"))
    for words, status, reason in (
        ((whole, part), 2, "the earlier run tried 1 claims that the later one did not"),
        ((whole, part, "--common"), 0, "no claim regressed"),
        ((part, whole), 0, "no claim regressed"),
        ((whole, none), 2, "no claim was tried in both runs"),
        ((whole, plain), 2, "PASS has two meanings"),
        ((whole, tmp_path), 2, "has no signoff.json"),
    ):
        result, output, wrong = run("compare", *map(str, words))
        assert (result, reason in output + wrong) == (status, True), output + wrong


def test_control_characters_of_a_report_never_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    bad = [claim("works", Status.FAIL, why=evil, sentence=f"It {evil}", command=f"pytest {evil}")]
    first_run = write(tmp_path, document(run_id(1), [claim("works")]))
    two = write(tmp_path, document(run_id(2), bad, kernel=f"6.12{evil}", series=f"s{evil}", host={evil: evil}))
    assert main(["record", "--history", str(tmp_path / "h"), str(first_run), str(two)]) == 0
    other = tmp_path / f"odd{evil}"
    other.mkdir()
    (other / "signoff.json").write_text(json.dumps({"schema": evil}))
    for words in (
        ("compare", run_id(1), "latest"),
        ("claim", "works"),
        ("record", str(other)),
        ("compare", evil, evil),
    ):
        _, message, wrong = program(*words, "--history", str(tmp_path / "h"), folder=tmp_path)
        assert message + wrong
        assert (message + wrong).replace("\n", "").isprintable(), words


def test_words_that_are_no_text_and_files_without_a_name_are_one_line(tmp_path: Path, run: Any) -> None:
    file = ["--history", str(tmp_path / "h")]
    assert run("record", str(write(tmp_path / "reports", document(run_id(1), [claim("works")]))), *file)[0] == 0
    no_text = os.fsdecode(b"\xff\xfe")
    for words in (("claim", no_text), ("history", no_text), ("compare", no_text, "latest"), ("summary", no_text)):
        assert run(*words, *file)[0] == 2
    for command in ("export", "import", "trend"):
        assert run(command, "", *file)[0] == 2


def test_every_command_explains_itself(run: Any) -> None:
    names = command_parsers()
    assert {"record", "export", "import", "compare", "claim", "history", "nightly", "trend", "summary"} == names.keys()
    assert run() == run("--help")
    for words in ((), *((name,) for name in names)):
        status, output, _ = run(*words, "--help")
        assert status == 0
        assert output.startswith(f"usage: sealproof {'nightly' if words == ('nightly',) else 'history'} ")


def test_ctrl_c_while_it_waits_is_one_word(tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "history", "import", "--history", str(tmp_path / "h"), "-"],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    poll_until((tmp_path / "h").exists, Deadline(60), "the import to begin")
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate()[1] == b"interrupted\n"
    assert waiting.returncode == 130
