# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of a long run, however it ends."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.errors import KernelError, MachineLostError
from common.progress import Terminal
from host_setup.hosts.guest_spec import GuestSpec
from host_setup.tools import soak
from host_setup.tools.endurance import reporting


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, MachineLostError])
@pytest.mark.parametrize("troubles", [[], ["stalled: no heartbeat"]], ids=["well", "trouble"])
def test_run_tells_what_came_of_it_and_keeps_the_consoles_of_what_went_wrong(
    end: type[BaseException] | None,
    troubles: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run() -> Path:
        with reporting("soak", lambda: ["boots 1 of 2"], lambda: troubles) as folder:
            folders.append(folder)
            (folder / "console.log").write_text("Linux version")
            if end is not None:
                raise end("ended")
        return folder

    folders: list[Path] = []
    if end is None:
        run()
    else:
        with pytest.raises(end):
            run()
    (folder,) = folders
    output = capsys.readouterr().out
    assert output.startswith("boots 1 of 2\n")
    wrong = bool(troubles) or end is MachineLostError
    assert (folder / "console.log").exists() == (str(folder) in output) == wrong
    assert all(trouble in output for trouble in troubles)


def test_folder_without_consoles_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KernelError), reporting("soak", list, list):
        raise KernelError("a patch does not apply")
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out


def test_soak_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        soak.main(["--boots", "0", "--restores", "0", "--reboots", "0"])
    assert "nothing to do" in capsys.readouterr().err


def test_tally_has_a_place_for_each_way_to_end() -> None:
    tally = soak.Tally("boots", 2)

    def lose_machine() -> None:
        raise MachineLostError("panic")

    tally.add(lose_machine)
    assert tally.line() == (
        "boots     1 of 2:  well 0  stalled 1  failed 0  fell back 0   start: median 0.0 s, longest 0.0 s"
    )
    assert tally.troubles == ["stalled: machine: panic"]


class Rebooted:
    """A guest that reboots as asked, and is opted in as given."""

    spec = GuestSpec(opts_in=True)

    def __init__(self, *, protected: bool) -> None:
        self.protected = protected
        self.tried: list[str] = []

    def checks(self, program: str) -> list[dict[str, str]]:
        self.tried.append(program)
        return [{"expected": "true", "got": "true"}]


def test_no_reboot_follows_one_after_which_the_guest_is_not_opted_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "reboot_in_a_row", lambda *_: [])
    for protected, outcomes in ((True, {"well": 3}), (False, {"failed": 1})):
        guest: Any = Rebooted(protected=protected)
        tally = soak.Tally("reboots", 3)
        tally.fill(Terminal(), partial(tally.add_reboot, guest), of_one=True)
        assert tally.outcomes == outcomes
        assert bool(guest.tried) == protected
