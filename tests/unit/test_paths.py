# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths as users write them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from common.errors import UserInputError
from common.paths import expand_home, parse_user_path
from host_setup import plugin
from host_setup.inventory import IpmiConsole, Remote

NOBODY = "~nobody-of-that-name/x"


def test_a_home_folder_takes_the_place_of_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/x") == parse_user_path("~/x") == Path("/home/me/x")
    assert parse_user_path("x") == Path.cwd() / "x"


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
