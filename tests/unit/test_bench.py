# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``make bench`` makes of its measurements; nothing here is timed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import MachineError
from common.progress import Terminal
from common.store import Store
from host_setup.tools import bench, virtme_ng
from host_setup.tools.bench import MIB, Row
from host_setup.tools.virtme_ng import LOCK, VirtmeNg, version_in_lock


def row(name: str, seconds: list[float], peak: int = 0, trouble: MachineError | None = None) -> Row:
    return Row(name, lambda: None, lambda: 0.0, seconds=seconds, peak=peak, trouble=trouble)


def test_the_table_has_median_spread_and_ratios_to_the_first_row() -> None:
    rows = [row("theirs", [9.0, 8.0, 8.5], 400 * MIB), row("ours, restored", [1.7, 0.85, 0.8], 600 * MIB)]
    assert bench.table(rows).splitlines() == [
        "                time: median  shortest  longest  ratio  peak memory  ratio",
        "theirs                8.50 s    8.00 s   9.00 s   1.00      400 MiB   1.00",
        "ours, restored        0.85 s    0.80 s   1.70 s   0.10      600 MiB   1.50",
    ]


def test_a_way_that_failed_says_why_and_has_no_ratio() -> None:
    broken = row("theirs", [8.0], 400 * MIB, MachineError("no output\nits last lines"))
    lines = bench.table([broken, row("ours", [1.0], 100 * MIB)]).splitlines()
    assert lines[1].split() == ["ours", "1.00", "s", "1.00", "s", "1.00", "s", "-", "100", "MiB", "-"]
    assert lines[2] == "theirs  not measured: no output"
    assert broken.median is None


def test_each_goal_is_told_with_what_was_found() -> None:
    assert bench.goals(8.0, 10.5, 1.0) == [
        "goal: both levels restored in at most 1 s: 1.00 s, met",
        "goal: at least 8 times faster than virtme-ng's one: 8.0 times, met",
        "goal: both levels cold in at most 10 s: 10.50 s, missed",
    ]
    assert bench.goals(None, 10.0, 1.01) == [
        "goal: both levels restored in at most 1 s: 1.01 s, missed",
        "goal: at least 8 times faster than virtme-ng's one: not measured",
        "goal: both levels cold in at most 10 s: 10.00 s, met",
    ]


def test_rounds_go_by_turns_and_a_way_that_fails_is_not_gone_again() -> None:
    order: list[str] = []

    def way(name: str, *, fails_in: int = 0) -> Row:
        def once() -> float:
            order.append(name)
            if order.count(name) == fails_in:
                raise MachineError("it died")
            return float(order.count(name))

        return Row(name, lambda: order.append(f"prepare {name}"), once)

    good, bad = way("good"), way("bad", fails_in=2)
    bench.measure([bad, good], 3, Terminal())
    assert order == ["prepare bad", "prepare good", "bad", "good", "bad", "good", "good", "good"]
    assert good.seconds == [2.0, 3.0, 4.0]  # the first was for the memory
    assert (good.median, bad.median) == (3.0, None)
    assert str(bad.trouble) == "machine: it died"


def test_a_way_may_be_lost_as_often_as_it_has_to_spare_and_says_so() -> None:
    ends: Iterator[MachineError | float] = iter(
        [MachineError("status 1\nassertion"), 2.0, 3.0, MachineError("status 1\nstalled"), 4.0]
    )

    def once() -> float:
        end = next(ends)
        if isinstance(end, MachineError):
            raise end
        return end

    steady = Row("theirs", lambda: None, once, spare=2)
    bench.measure([steady], 2, Terminal())
    assert steady.trouble is None
    assert steady.seconds == [3.0, 4.0]
    assert bench.table([steady]).splitlines()[-1] == "theirs  2 lost and not counted: assertion"


def test_memory_is_that_of_the_machines_alone(tmp_path: Path) -> None:
    machine = tmp_path / "qemu-sys-test"
    shutil.copy(sys.executable, machine)
    code = f"kept = bytearray({50 * MIB}); import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); input()"
    home = {"PYTHONHOME": sys.base_prefix}
    with (
        subprocess.Popen([machine, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=home) as counts,
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as another,
    ):
        for process in (counts, another):
            assert process.stdout is not None
            process.stdout.readline()
        assert 50 * MIB <= bench.machines_memory("qemu-sys-test") < 90 * MIB
        for process in (counts, another):
            process.communicate(b"\n")
    assert bench.machines_memory("qemu-sys-test") == 0


def test_a_busy_machine_is_told() -> None:
    assert bench.load_warning(1.0, 2) is None
    assert "load average 1.10 on 2 CPUs" in str(bench.load_warning(1.1, 2))


@pytest.mark.parametrize("text", ["0", "-1", "some", ""])
def test_rounds_below_one_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.options_parser().parse_args(["--rounds", text])
    assert "is not a number of rounds" in capsys.readouterr().err
    assert bench.options_parser().parse_args([]).rounds == 5


def test_the_lock_pins_virtme_ng_with_hashes() -> None:
    text = LOCK.read_text(encoding="utf-8")
    assert version_in_lock(text)
    assert text.count("--hash=sha256:") > text.count("==") > 0
    with pytest.raises(ValueError, match="does not pin"):
        version_in_lock("requests==1.0\n")


def test_virtme_ng_is_timed_to_its_command_s_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    (tmp_path / "vng").write_text('#!/bin/sh\necho "$HOME $PWD"\necho 6.12.7\nexit 255\n')
    (tmp_path / "vng").chmod(0o755)
    vng = VirtmeNg("1", "key", tmp_path)
    seconds = vng.boot(Path("image"), "6.12.7", qemu=Path("qemu"), cpus=2, memory=1024, folder=tmp_path / "run")
    assert seconds > 0
    assert f"{tmp_path}/run/home /\n" in (tmp_path / "run/vng.log").read_text()
    (tmp_path / "vng").write_text("#!/bin/sh\necho 6.12.7\n")
    with pytest.raises(MachineError, match=r"does not name 6\.12\.8"):
        vng.boot(Path("image"), "6.12.8", qemu=Path("qemu"), cpus=2, memory=1024, folder=tmp_path / "run")
    (tmp_path / "vng").write_text("#!/bin/sh\necho no kernel\nexit 3\n")
    with pytest.raises(MachineError, match=r"vng: status 3\nno kernel"):
        vng.boot(Path("image"), "6.12.7", qemu=Path("qemu"), cpus=2, memory=1024, folder=tmp_path / "run")


def test_an_installed_virtme_ng_starts_from_its_final_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(argv: list[str], **_: object) -> None:
        if "venv" in argv:
            folder = Path(argv[-1])
            (folder / "bin").mkdir()
            for name in ("vng", "virtme-run"):
                (folder / "bin" / name).write_text(f"#!{folder}/bin/python\n")

    monkeypatch.setattr(virtme_ng, "run_tree", pretend)
    vng = VirtmeNg.of(Store(tmp_path))
    log = tmp_path / f"logs/virtme-ng-{vng.key}.log"
    log.parent.mkdir()
    log.touch()
    vng.install(Store(tmp_path), Terminal())
    assert (vng.programs / "vng").read_text() == f"#!{vng.programs}/python\n"
    assert (vng.programs / "virtme-run").read_text() == f"#!{vng.programs}/python\n"
