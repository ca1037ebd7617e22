# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof``: the wrapper with stand-ins for set-up and Python, the table of commands, and what these start."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import cli.__main__ as command_line
from cli import completion, own_tests, running, schema, signoff, verify
from cli.table import COMMANDS, OF_HISTORY, Command, find
from common.errors import UserInputError
from common.paths import PROJECT
from common.waiting import Deadline, poll_until
from fleet.groups import CONTRACT
from tests.unit.documented import fault_of
from tests.unit.report_samples import small_report
from verifier import __main__ as verifier

NAMES = [command.name for command in COMMANDS]
PASS_ON = ("signoff", "test", "coverage", "fleet", "verify")
"""Commands that hand options on which they do not know, and the verifier, which has a name of its own."""
FOR_GIT = ("try",)
"""Commands whose exit status git bisect reads: 2 would be "bad"."""
GOALS_WITH_OPTIONS = ("soak", "clean-cache", "verify", "rebuild", "doctor")
"""Goals of make with variables of their own."""


class Checkout:
    """A checkout with our wrapper, whose set-up and Python do what they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "host_setup").mkdir(parents=True)
        (folder / ".venv/bin").mkdir(parents=True)
        shutil.copy(PROJECT / "sealproof", folder)
        self.script("host_setup/bootstrap.sh", f'[ "$*" = python ] && echo {folder}/bare || echo set up >&2')
        self.script(".venv/bin/python", 'printf "<%s>" made "$@"')
        self.script("bare", 'printf "<%s>" bare "$@"')

    def script(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def run(self, *argv: str, cwd: Path | None = None, command: str = "./sealproof") -> tuple[int, str]:
        """Status, and both outputs."""
        done = subprocess.run(
            [command, *argv],
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_wrapper_sets_up_and_hands_all_words_on(checkout: Checkout) -> None:
    status, output = checkout.run("shell", "--series", "a b", "--", "echo", "'c'")
    assert (status, output) == (0, "set up\n<made><-E><-m><cli><shell><--series><a b><--><echo><'c'>")


@pytest.mark.parametrize("status", [0, 1, 2, 3, 77])
def test_the_wrapper_ends_with_the_status_of_the_command(checkout: Checkout, status: int) -> None:
    checkout.script(".venv/bin/python", f"exit {status}")
    assert checkout.run("signoff")[0] == status


def test_a_set_up_that_failed_is_not_proven_and_runs_nothing(checkout: Checkout) -> None:
    checkout.script("host_setup/bootstrap.sh", "echo broken; exit 1")
    assert checkout.run("signoff") == (2, "broken\n")
    assert checkout.run("doctor")[0] == 2


def test_git_bisect_never_takes_a_failed_set_up_for_a_bad_kernel(checkout: Checkout, tmp_path: Path) -> None:
    status, output = checkout.run("try", "x", cwd=tmp_path, command=str(checkout.folder / "sealproof"))
    assert status == 128  # git stops: 1 to 127 but 125 mean "bad"
    assert f"next: cd {checkout.folder}" in output
    checkout.script("host_setup/bootstrap.sh", "echo broken; exit 1")
    assert checkout.run("try", "x") == (128, "broken\n")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",), ("doctor",)])
def test_what_changes_nothing_sets_nothing_up(checkout: Checkout, words: tuple[str, ...]) -> None:
    _, output = checkout.run(*words)
    assert output.startswith("<bare><-E><-B><-m><cli>")
    assert "set up" not in output


def test_an_inventory_is_read_by_what_is_installed(checkout: Checkout) -> None:
    assert checkout.run("doctor", "lab.toml")[1] == "set up\n<made><-E><-m><cli><doctor><lab.toml>"


def test_outside_the_checkout_a_relative_path_is_not_misread(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "bin"
    link.symlink_to(checkout.folder / "sealproof")
    status, output = checkout.run("verify", "report.tar", cwd=tmp_path, command=str(link))
    assert status == 2
    assert f"next: cd {checkout.folder}" in output
    assert "<made>" not in output
    assert "<bare>" in checkout.run("--help", cwd=tmp_path, command=str(link))[1]
    assert "<made>" in checkout.run("completion", "bash", cwd=tmp_path, command=str(link))[1]


@pytest.mark.parametrize("name", ["my check out", "it's", "a$b"])
def test_the_next_step_outside_the_checkout_can_be_pasted(checkout: Checkout, tmp_path: Path, name: str) -> None:
    checkout.folder.rename(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    output = checkout.run(
        "verify", "report.tar", cwd=tmp_path / "elsewhere", command=str(tmp_path / name / "sealproof")
    )[1]
    step = output.partition("next: ")[2].strip()
    assert subprocess.check_output(["sh", "-c", f"{step} && pwd"], text=True).strip() == str(tmp_path / name)


def test_pythons_and_pytests_variables_do_not_reach_a_command(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "mine")
    checkout.script(".venv/bin/python", "env")
    output = checkout.run("signoff")[1]
    assert "PATH=" in output
    assert "=mine" not in output


def test_the_list_of_commands_and_doctor_need_the_standard_library_alone() -> None:
    for words, expected in (([], 0), (["--help"], 0), (["doctor", "--help"], 0)):
        argv = [sys.executable, "-E", "-S", "-B", "-m", "cli", *words]
        done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (expected, "")
        assert "doctor" in done.stdout


def test_each_command_is_one_line_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(NAMES) == len(set(NAMES))
    for command in COMMANDS:
        assert [line for line in lines if re.match(rf"  {command.name} +\S", line)], command.name
        assert len(command.name) + len(command.summary) <= 116
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_help_has_the_options_and_examples_that_parse(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([command.name, "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: sealproof {command.name}")
    assert "--help" in output
    assert command.examples
    for example in command.examples:
        assert f"  ./sealproof {command.name} {example}".rstrip() in output.splitlines()
        assert fault_of(f"./sealproof {command.name} {example}") == ""


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_help_says_once_what_each_exit_status_means(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main([command.name, "--help"])
    options, _, statuses = capsys.readouterr().out.partition("\nexit status:\n")
    assert statuses
    assert re.search(rf"\b{command.failed}: ", statuses)
    assert statuses.startswith(("  0: ", "  the same as of ", "  the exit status of "))
    assert not re.search(r"[Ee]xit (status)?:? ?\d", options)


def test_an_unknown_command_names_those_that_are_near() -> None:
    with pytest.raises(UserInputError) as caught:
        command_line.main(["sing-off"])
    assert "signoff" in caught.value.hint
    with pytest.raises(UserInputError) as caught:
        find("xyzzy")
    assert "--help" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*PASS_ON, *FOR_GIT)])
def test_a_wrong_option_is_told_by_the_name_of_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main([name, "--none-such"])
    assert caught.value.code == 2
    assert f"sealproof {name}: error: " in capsys.readouterr().err


def test_a_wrong_option_of_verify_is_told_by_the_name_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["verify", "--none-such", "report"]) == 2
    output = capsys.readouterr().err
    assert "usage: sealproof verify " in output
    assert "sealproof verify: error: " in output
    assert verifier.main(["--none-such", "report"]) == 2
    assert "python3 -I verifier: error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_help_is_plain_text_about_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main([name, "--help"])
    output = capsys.readouterr().out
    assert "``" not in output
    assert "-I" not in output.split()


@pytest.mark.parametrize("word", OF_HISTORY)
def test_a_word_of_history_alone_is_told_with_its_command(word: str) -> None:
    with pytest.raises(UserInputError) as caught:
        find(word)
    assert f"history {word}" in caught.value.hint


def test_help_of_history_lists_its_words_alone(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["history", "--help"])
    listed = re.findall(r"^    (\S+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(set(listed)) == sorted(OF_HISTORY)


@pytest.mark.parametrize("words", [["--against", "stock"], ["--json", "out"]])
def test_bench_does_not_pass_over_an_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["bench", *words])
    assert "need --protection" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in NAMES if name != "verify"])
def test_an_empty_path_is_not_the_folder_here(name: str) -> None:
    for action in find(name).options_parser()._actions:
        value: object = None
        with contextlib.suppress(argparse.ArgumentTypeError, ValueError):  # it is no path, but a number or a name
            value = action.type("x") if callable(action.type) else None
        if isinstance(value, Path) and callable(action.type):
            with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
                action.type("")


@pytest.mark.parametrize("name", FOR_GIT)
def test_no_failure_is_a_verdict_on_a_kernel(name: str) -> None:
    argv = [sys.executable, "-E", "-m", "cli", name, "--help"]
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(argv, cwd=PROJECT, stdout=full, stderr=full, check=False).returncode == 128


@pytest.mark.parametrize("name", FOR_GIT)
def test_a_wrong_option_is_no_verdict_on_a_kernel(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([name, "--none-such"]) == 128
    assert f"sealproof {name}: error: " in capsys.readouterr().err


def test_a_command_of_a_module_with_several_is_called_by_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Sequence[str]] = []
    monkeypatch.setattr("fleet.__main__.main", lambda argv: called.append(argv) or 3)
    assert command_line.main(["merge", "a", "b"]) == 3
    assert command_line.main(["fleet", "--workers", "2"]) == 3
    assert called == [["merge", "a", "b"], ["run", "--workers", "2"]]


def goals() -> dict[str, str]:
    """What ``make`` says of each of its goals."""
    lines = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^  make (\S+) +(.*)", lines, re.M))


def test_make_says_of_a_command_what_the_command_says() -> None:
    output = goals()
    assert {"signoff", "test", "shell", "fleet", "coverage", "clean-cache"} <= output.keys()
    for command in COMMANDS:
        if command.name in output:
            assert output[command.name] == command.summary


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name in goals() and name not in ("signoff", "test", "lint")]
)
def test_make_dispatches_to_the_command(name: str) -> None:
    words = ["make", "-n", name, "ARGS=--series stock"]
    output = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert f"-m cli {name}" in output
    if name not in GOALS_WITH_OPTIONS:
        assert f"-m cli {name} --series stock" in output


def test_make_runs_the_same_tests_as_the_command() -> None:
    for claims, tests in (("all", own_tests.ALL), ("quick", own_tests.QUICK)):
        words = ["make", "-n", "test", f"CLAIMS={claims}"]
        output = " ".join(subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split())
        assert f"-m cli.tests {' '.join(tests)}" in output
        assert " ".join(own_tests.LINT) in output


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2)])
def test_signoff_ends_with_a_verdict(monkeypatch: pytest.MonkeyPatch, status: int, expected: int) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(pytest, "main", lambda: lines.append(sys.argv) or status)
    assert signoff.main(["-k", "a or b"]) == expected
    assert lines == [["pytest", "tests_e2e", "-k", "a or b"]]


@pytest.mark.parametrize(
    ("statuses", "expected", "runs"),
    [((0, 0), 0, 2), ((1,), 1, 1), ((0, 1), 1, 2), ((0, 5), 5, 2)],
)
def test_the_own_tests_end_with_what_fails_first(
    monkeypatch: pytest.MonkeyPatch, statuses: Sequence[int], expected: int, runs: int
) -> None:
    called: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> int:
        called.append(argv)
        return statuses[len(called) - 1]

    monkeypatch.setattr(own_tests, "run", run)
    assert own_tests.main(["-x"]) == expected
    assert len(called) == runs
    assert all(argv[-1] == "-x" and "tests_e2e" in argv for argv in called[1:])
    called.clear()
    own_tests.main(["-x", "--quick"])
    assert not any("tests_e2e" in argv or "--quick" in argv for argv in called)


def test_a_program_that_is_run_is_told_to_end_and_waited_for(tmp_path: Path) -> None:
    script = "trap 'sleep 0.2; echo ended >told; exit 7' TERM; echo >up; while :; do sleep 0.05; done"
    text = f"import sys; from cli.running import run; sys.exit(run(['sh', '-c', '''cd {tmp_path}; {script}''']))"
    parent = subprocess.Popen([sys.executable, "-c", text], cwd=PROJECT)
    poll_until((tmp_path / "up").exists, Deadline(20), "it to start")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=20) == 7
    assert (tmp_path / "told").exists()


def test_who_is_told_to_end_before_the_program_has_begun_ends_it_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def told_meanwhile(*argv: Any, **options: Any) -> subprocess.Popen[bytes]:
        signal.raise_signal(signal.SIGTERM)
        return start(*argv, **options)

    monkeypatch.setattr("cli.running.subprocess.Popen", told_meanwhile)
    before = signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "lost").touch())
    try:
        assert running.run(["sleep", "60"]) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "lost").exists()


def test_the_status_of_a_program_is_what_a_shell_says() -> None:
    assert running.run(["sh", "-c", "exit 3"]) == 3
    assert running.run(["sh", "-c", "kill -KILL $$"]) == 128 + 9


@pytest.mark.parametrize(("verified", "same", "expected"), [(0, 0, 0), (0, 3, 3), (1, 0, 1), (3, 0, 3)])
def test_verify_compares_what_is_sound_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verified: int, same: int, expected: int
) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(verify.verifier, "main", lambda argv, _: calls.append(("verifier", argv)) or verified)
    monkeypatch.setattr(verify.reports, "main", lambda argv: calls.append(("reports", argv)) or same)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert verify.main([str(tmp_path), "--commit", "abc"]) == expected
    contract = str(CONTRACT)
    assert calls[0] == ("verifier", ["--contract", contract, str(tmp_path), "--commit", "abc"])
    assert calls[1:] == ([] if verified else [("reports", ["--same", str(tmp_path)])])
    key = tmp_path / "sealproof/signing-key.pem"
    key.parent.mkdir()
    key.touch()
    archive = tmp_path / "report.tar"
    (tmp_path / "record.json").write_text("{}")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "record.json", "run/record.json")
    calls.clear()
    assert verify.main([str(archive)]) == expected
    assert calls[0] == ("verifier", ["--contract", contract, "--key", str(key), str(archive)])
    assert [(name, words[0]) for name, words in calls[1:]] == ([] if verified else [("reports", "--same")])


def test_schema_is_printed_and_checks_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main([]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"]
    good, bad, none = small_report(tmp_path, None) / "signoff.json", tmp_path / "bad.json", tmp_path / "none.json"
    bad.write_text(good.read_text().replace('"exit_code": ', '"exit_code": 1'))
    assert schema.main(["--check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: valid\n"
    assert schema.main(["--check", str(good), str(bad), str(none)]) == 1
    bad.write_text("[" * 100_000)
    assert schema.main(["--check", str(bad)]) == 1
    output = capsys.readouterr().out
    assert f"{bad}: at exit_code: " in output
    assert f"{none}: No such file" in output
    assert str(good) not in output


def complete(script: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    ask = 'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sealproof; printf "%s\\n" "${COMPREPLY[@]}"'
    argv = ["bash", "-c", ask, "bash", script, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main(["bash"]) == 0
    script = capsys.readouterr().out
    assert complete(script, "./sealproof", "") == NAMES
    assert complete(script, "./sealproof", "so") == ["soak"]
    assert complete(script, "./sealproof", "shell", "--mode", "") == ["plain", "protected"]
    assert complete(script, "./sealproof", "soak", "--boots", "") == []
    assert complete(script, "./sealproof", "completion", "z") == ["zsh"]
    for command in COMMANDS:
        words = set(complete(script, "./sealproof", command.name, "-"))
        assert {name for option in completion.options(command) for name in option.names} == words


def test_zsh_accepts_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main(["zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef sealproof")
    assert script.count("'*:") == len(COMMANDS)  # _arguments takes one rule for what is no option
    for command in COMMANDS:
        assert f"{command.name}:" in script
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed: its script was not parsed")
    done = subprocess.run(["zsh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["help", "bench"], ["bench", "--help"]])
def test_help_of_a_command_is_asked_for_either_way(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(words) == 0
    assert "usage: sealproof bench" in capsys.readouterr().out
