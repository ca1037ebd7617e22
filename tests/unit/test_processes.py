# SPDX-License-Identifier: GPL-2.0-or-later
"""What is started dies with the run. The runs here are Python processes of their own, so that they can be killed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import CommandError, SetupError
from common.paths import PROJECT
from common.processes import TAIL_LINES, run_tree, spawn
from common.waiting import Deadline, poll_until

RUN = """
import signal, sys
from pathlib import Path
from common.processes import run_tree, spawn
signal.signal(signal.SIGINT, signal.default_int_handler)
what, folder = sys.argv[1], Path(sys.argv[2])
if what == "tree":
    run_tree(["sh", str(folder / "tree.sh")], log=folder / "log", stage="test")
else:
    child = spawn(["sleep", "600"])
    (folder / "child.pid").write_text(f"{child.pid}\\n")
    child.wait()
"""
# A child; one whose parent is gone; one that left session and process group, too.
TREE = """
cd {folder}
note() {{ echo "$1" > "$2.tmp"; mv "$2.tmp" "$2.pid"; }}
sleep 600 & note $! plain
(sleep 600 & note $! orphan)
(setsid sh -c 'sleep 600 & echo $! > daemon.tmp; mv daemon.tmp daemon.pid; trap "" TERM HUP INT; wait' &)
note $$ child
wait
"""
NAMES = ("child", "daemon", "orphan", "plain")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def pids(folder: Path, names: tuple[str, ...]) -> list[int]:
    def note_pids() -> list[int]:
        texts = [p.read_text() for n in names if (p := folder / f"{n}.pid").exists()]
        return [int(text) for text in texts] if len(texts) == len(names) and all(texts) else []

    return poll_until(note_pids, Deadline(60), f"{names} to start")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    (tmp_path / "tree.sh").write_text(TREE.format(folder=shlex.quote(str(tmp_path))))
    started: list[subprocess.Popen[bytes]] = []

    def start(case: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", RUN, case, str(tmp_path)]
        started.append(subprocess.Popen(argv, cwd=PROJECT, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for file in tmp_path.glob("*.pid"):  # only what the test itself shows to have failed
        if alive(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_whole_tree_dies_with_the_run(
    tmp_path: Path, run: Callable[[str], subprocess.Popen[bytes]], how: signal.Signals
) -> None:
    parent = run("tree")
    tree = pids(tmp_path, NAMES)
    assert all(alive(pid) for pid in tree)
    parent.send_signal(how)
    parent.wait(timeout=60)
    poll_until(lambda: not any(alive(pid) for pid in tree), Deadline(60), "the tree to die")


def test_spawned_process_dies_with_the_run(tmp_path: Path, run: Callable[[str], subprocess.Popen[bytes]]) -> None:
    parent = run("one")
    (child,) = pids(tmp_path, ("child",))
    assert alive(child)
    parent.kill()
    parent.wait()
    poll_until(lambda: not alive(child), Deadline(60), "the child to die")


def test_what_a_finished_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    daemon = "setsid sh -c 'echo $$ > daemon.tmp; mv daemon.tmp daemon.pid; exec sleep 600' &"
    script = f"{daemon} while [ ! -e daemon.pid ]; do sleep 0.01; done"
    run_tree(["sh", "-c", script], log=tmp_path / "log", stage="test", cwd=tmp_path)
    assert not alive(int((tmp_path / "daemon.pid").read_text()))


def test_tree_dies_when_its_reader_fails(tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ZeroDivisionError):
        run_tree(
            ["sh", "-c", "echo $$ > child.pid; echo go; sleep 600"],
            log=tmp_path / "log",
            stage="test",
            cwd=tmp_path,
            on_line=fail,
        )
    assert not alive(int((tmp_path / "child.pid").read_text()))


def test_log_begins_with_the_command_which_a_shell_can_repeat(tmp_path: Path) -> None:
    log, folder = tmp_path / "new" / "log", tmp_path / "a folder"
    folder.mkdir()
    argv = ["sh", "-c", 'echo "$0 $WORD" in "$(basename "$PWD")"', "it's $HOME"]
    run_tree(argv, log=log, stage="test", cwd=folder, env={"WORD": "two words"})
    command, *text = log.read_text().splitlines()
    assert command.startswith("$ ")
    assert text == ["it's $HOME two words in a folder"]
    again = subprocess.run(["sh", "-c", command[2:]], capture_output=True, text=True, check=True)
    assert again.stdout.splitlines() == text


def test_each_line_is_told_both_streams_and_strange_bytes_included(tmp_path: Path) -> None:
    lines: list[str] = []
    script = r"echo out; echo err >&2; printf '\377\n'; printf 'no end'"
    run_tree(["sh", "-c", script], log=tmp_path / "log", stage="test", on_line=lines.append)
    assert lines == ["out", "err", "\ufffd", "no end"]


@pytest.mark.parametrize(("end", "status"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)])
def test_failed_command_tells_status_and_its_last_lines(tmp_path: Path, end: str, status: int) -> None:
    with pytest.raises(CommandError) as caught:
        run_tree(["sh", "-c", f"seq 1000; {end}"], log=tmp_path / "log", stage="the stage")
    assert caught.value.returncode == status
    assert caught.value.stage == "the stage"
    assert caught.value.artefact == tmp_path / "log"
    assert caught.value.tail.split() == [str(n) for n in range(1001 - TAIL_LINES, 1001)]
    assert len((tmp_path / "log").read_text().splitlines()) == 1001


def test_missing_program_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        run_tree(["no-such-program"], log=tmp_path / "log", stage="test")
    assert "no-such-program" in caught.value.tail
    assert "Traceback" not in caught.value.tail
    assert caught.value.returncode == 127


def test_missing_program_to_spawn_is_a_matter_of_set_up() -> None:
    with pytest.raises(SetupError, match="no-such-program is not installed"):
        spawn(["no-such-program"])


@pytest.mark.parametrize("start", [lambda _: spawn(["true"]), lambda log: run_tree(["true"], log=log, stage="test")])
def test_processes_start_from_the_main_thread_alone(tmp_path: Path, start: Callable[[Path], object]) -> None:
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            start(tmp_path / "log")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


def test_spawned_process_leads_a_session_and_gets_the_files_named() -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours, encoding="ascii") as out:
        child = spawn(["sh", "-c", f"echo $$ $(cut -d' ' -f6 /proc/$$/stat) >/dev/fd/{theirs}"], pass_fds=(theirs,))
        os.close(theirs)
        pid, session = out.read().split()
    assert child.wait() == 0
    assert pid == session == str(child.pid)
