# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of a long run, however it ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from common.errors import KernelError, MachineLostError
from host_setup import soak
from host_setup.endurance import told


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
        with told("soak", lambda: ["boots 1 of 2"], lambda: troubles) as folder:
            kept.append(folder)
            (folder / "console.log").write_text("Linux version")
            if end is not None:
                raise end("ended")
        return folder

    kept: list[Path] = []
    if end is None:
        run()
    else:
        with pytest.raises(end):
            run()
    (folder,) = kept
    said = capsys.readouterr().out
    assert said.startswith("boots 1 of 2\n")
    wrong = bool(troubles) or end is MachineLostError
    assert (folder / "console.log").exists() == (str(folder) in said) == wrong
    assert all(trouble in said for trouble in troubles)


def test_folder_without_consoles_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KernelError), told("soak", list, list):
        raise KernelError("a patch does not apply")
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--boots", "0", "--restores", "0", "--reboots", "0"], ["--boots", "-1"]], ids=" ".join
)
def test_soak_of_nothing_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        soak.main(words)
    assert "nothing to do" in capsys.readouterr().err


def test_tally_has_a_place_for_each_way_to_end() -> None:
    tally = soak.Tally()

    def lost() -> None:
        raise MachineLostError("panic")

    tally.add(lost)
    assert tally.line("boots", 2) == (
        "boots     1 of 2:  well 0  stalled 1  failed 0  fell back 0   start: median 0.0 s, longest 0.0 s"
    )
    assert tally.troubles == ["stalled: machine: panic"]
