# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a machine, by the user's own configuration of ssh, where there is none to be gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ChannelError, UserInputError
from host_setup.channels import route
from host_setup.inventory import Remote
from host_setup.tools import remote_doctor
from host_setup.tools.doctor import Grade

CIRCLE = """Host one
 ProxyJump three
Host two
 ProxyJump one
Host other
 ProxyJump one
Host three
 ProxyJump """


@pytest.mark.parametrize("jump", ["two", "me@two:2200", "ssh://me@two", "other,two"])
def test_jumps_in_a_circle_are_told_and_not_made(tmp_path: Path, jump: str) -> None:
    config = tmp_path / "config"
    config.write_text(CIRCLE + jump)
    with pytest.raises(UserInputError, match=r"go in a circle: one, three, (two|other), one") as caught:
        route.find(["-F", str(config)], "root", "one", None)
    assert caught.value.hint


def test_jumps_that_end_are_made(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CIRCLE + "gate,two")  # to two by gate, and not as its own entry says
    assert route.find(["-F", str(config)], "root", "one", None).through == "three"


def test_name_that_nothing_can_have_is_not_answered() -> None:
    with pytest.raises(ChannelError, match="far does not answer"):
        route.Stream("far", route.Route(f"{'a' * 70}.invalid", 22), 1.0)


def test_console_on_which_doctor_itself_fails_hides_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no file")

    monkeypatch.setattr(remote_doctor, "ConsoleLog", fail)
    machine = Remote(kind="ssh", address="root@far", host_key="ssh-ed25519 AAAA", key="/k")
    with remote_doctor.consoles({"far": machine}) as ask:
        (finding,) = ask("far")
    assert (finding.state, finding.fact) == (Grade.STOP, "doctor failed on this machine: OSError: no file")
