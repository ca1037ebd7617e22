# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths as users write them."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import pytest

from common.errors import SetupError, UserInputError
from common.paths import PROJECT, expand_home, parse_path, parse_path_elsewhere, parse_user_path, user_folder
from fleet import __main__ as fleet
from host_setup import plugin
from host_setup.inventory import IpmiConsole, Remote

NOBODY = "~nobody-of-that-name/x"


def test_a_home_folder_takes_the_place_of_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/x") == parse_user_path("~/x") == Path("/home/me/x")
    assert parse_user_path("x") == Path.cwd() / "x"


def test_a_home_that_is_no_whole_path_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "here")
    with pytest.raises(SetupError, match="has no home folder: HOME is here, not a whole path"):
        user_folder("XDG_STATE_HOME", ".local/state")


def test_a_folder_that_is_gone_is_told_as_another_folder_is(tmp_path: Path) -> None:
    """In two lines, behind the one of sh itself."""
    script = f"cd {tmp_path} && rmdir {tmp_path} && exec {PROJECT}/sealproof doctor"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("sh: ")]
    assert (done.returncode, len(lines), lines[0]) == (
        2,
        2,
        "sealproof: this is not the checkout, to which all paths are relative",
    )


def test_a_home_folder_that_nobody_has_is_one_line() -> None:
    with pytest.raises(UserInputError, match="no home folder is known for ~nobody-of-that-name") as caught:
        expand_home(NOBODY)
    assert caught.value.hint
    with pytest.raises(argparse.ArgumentTypeError, match="no home folder is known"):
        parse_user_path(NOBODY)


def test_an_option_with_such_a_path_is_a_wrong_option(capsys: pytest.CaptureFixture[str]) -> None:
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    with pytest.raises(pytest.UsageError, match="no home folder is known"):
        parser.parse(["--cache-folder", NOBODY])
    assert "Traceback" not in capsys.readouterr().err


def test_a_machine_of_the_inventory_with_such_a_path_is_told_as_one() -> None:
    machine = Remote(kind="ssh", address="a@b", host_key="ssh-ed25519 AAAA", key=NOBODY, ssh_config=NOBODY)
    console = IpmiConsole(kind="ipmi", address="b", user="a", password_file=NOBODY)
    for use in (lambda: machine.key_file, lambda: machine.ssh_options, lambda: console.command):
        with pytest.raises(UserInputError, match="no home folder is known"):
            use()


def test_a_path_where_nothing_can_be_is_a_wrong_option(tmp_path: Path) -> None:
    """Later each call of pathlib's would fail in its own way, some with a RuntimeError."""
    (tmp_path / "loop").symlink_to("loop")
    for path, why in (
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / "loop/below", "Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("x/" * 5000), "File name too long"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=why) as caught:
            parse_path(str(path))
        assert len(str(caught.value)) < 300
    for there in (tmp_path, tmp_path / "not-yet/below", Path("x"), Path(os.fsdecode(b"\xff"))):
        assert parse_path(str(there)) == there


def test_a_path_that_this_user_may_not_see_is_a_wrong_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(argparse.ArgumentTypeError, match="/root/linux: Permission denied"):
        parse_path("/root/linux")
    assert parse_path_elsewhere("/root/linux") == Path("/root/linux")


@pytest.mark.parametrize("words", [["merge", "{}"], ["merge", ".", "--reports", "{}"], ["speedup", "{}"]])
def test_a_command_says_so_in_one_line(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemExit) as caught:
        fleet.main([word.format(tmp_path / "loop") for word in words])
    assert caught.value.code == 2
    assert "Too many levels of symbolic links" in capsys.readouterr().err
