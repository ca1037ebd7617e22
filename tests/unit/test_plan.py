# SPDX-License-Identifier: GPL-2.0-or-later
"""``--dry-run``: what would be done is said, and nothing is made."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import KernelError, SealproofError, UserInputError
from common.paths import PROJECT
from common.store import Store
from fleet.__main__ import main
from host_setup import plan as plan_module
from host_setup import this_machine
from host_setup.kernel import debian_archive
from host_setup.kernel.debian_archive import Package
from host_setup.plan import Looking, NotMadeError, plan
from host_setup.provision import Settings
from signoff.contract import Mode
from signoff.forecast import describe, last_seconds
from signoff.verdict import Status
from tests.unit.fleet_samples import FIRST, SECOND, THIRD, WELL, part
from tests.unit.test_inventory import WHOLE

KERNEL = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = x\nKERNELVERSION = 6.12.117\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """As much of a kernel's source as a plan reads."""
    folder = tmp_path / "linux"
    folder.mkdir()
    (folder / "Makefile").write_text(KERNEL)
    return folder


def everything(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_store_that_is_only_looked_at_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    there = store.get_or_make("kernel", "a", lambda folder: (folder / "x").touch())
    os.utime(there / ".used", (1, 1))
    before = everything(tmp_path / "cache")
    looking = Looking(tmp_path / "cache", tmp_path / "scratch")
    assert looking.get("kernel", "a") == looking.get_or_make("kernel", "a", pytest.fail) == there
    for look in (looking.get, lambda kind, key: looking.get_or_make(kind, key, pytest.fail)):
        with pytest.raises(NotMadeError):
            look("kernel", "b")
    assert looking.get_or_make("identity", "c", lambda folder: (folder / "y").touch()).is_relative_to(
        tmp_path / "scratch"
    )
    assert everything(tmp_path / "cache") == before


def test_time_that_the_last_one_took_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.seconds("kernel") is None
    for key in ("a", "b"):
        (tmp_path / "kernel.seconds").write_text("61.0")
        assert store.seconds("kernel") == 61.0
        store.get_or_make("kernel", key, lambda _: None)
        assert store.seconds("kernel") == 0.0
    (tmp_path / "kernel.seconds").write_text("")
    assert store.seconds("kernel") is None


def test_all_that_an_empty_cache_lacks_is_said_and_nothing_is_made(tmp_path: Path, source: Path) -> None:
    lines = [
        str(line) for line in plan(Settings("emulated", "stock", source, mode=Mode.PLAIN), Store(tmp_path / "cache"))
    ]
    assert not (tmp_path / "cache").exists()
    assert lines[0].startswith("  kernel    Linux 6.12.117, series stock, no patch: to be made")
    assert [line.split()[0] for line in lines] == ["kernel", "programs", "images", "modules", "host", "boot"]
    assert all("to be made" in line for line in lines[:4])
    assert lines[4].endswith("with the guests plain (192 MiB)")
    assert "to be saved" in lines[5]


def test_what_the_cache_has_is_not_made_again_and_the_last_time_is_told(tmp_path: Path, source: Path) -> None:
    store = Store(tmp_path / "cache")
    for kind in ("rootfs", "snapshot"):
        store.get_or_make(kind, "old", lambda folder: (folder / "packages.list").touch())
        (store.root / f"{kind}.seconds").write_text("61.0")
    lines = "\n".join(map(str, plan(Settings("emulated", "protected-memory", source), store)))
    assert " patches: to be made, in a time that is not known yet" in lines
    assert "images    Debian for host and guest: to be made, 1 min 01 s last time" in lines
    assert "guests protected (208 MiB), plain (192 MiB)" in lines
    assert "boot      host and guests, to be saved: 1 min 01 s last time" in lines


def test_host_that_bochs_emulates_has_the_same_kernel_and_a_saved_state(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(this_machine.survey(), missing_for_bochs=())
    monkeypatch.setattr(plan_module, "survey", lambda: machine)
    settings = Settings(series="protected-memory", kernel_source=source, emulator="bochs")
    lines = [str(line) for line in plan(settings, Store(tmp_path / "cache"))]
    assert lines[0].endswith(" patches: to be made, in a time that is not known yet")
    assert "Bochs" in lines[4]
    assert lines[4].endswith("guests protected (208 MiB), plain (192 MiB)")
    assert "to be saved" in lines[5]


def test_what_bochs_lacks_is_in_the_plan(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(this_machine.survey(), missing_for_bochs=("bochs", "vgabios"))
    monkeypatch.setattr(plan_module, "survey", lambda: machine)
    settings = Settings(series="protected-memory", kernel_source=source, emulator="bochs")
    lines = [str(line) for line in plan(settings, Store(tmp_path / "cache"))]
    assert lines[0].endswith("of Bochs, to be installed: bochs vgabios")


def test_bochs_and_a_real_machine_exclude_each_other(tmp_path: Path) -> None:
    inventory = tmp_path / "lab.toml"
    inventory.write_text(WHOLE)
    with pytest.raises(UserInputError, match="rack1-07 is no emulated one"):
        plan(Settings("rack1-07", inventory=inventory, emulator="bochs"), Store(tmp_path / "cache"))


def test_what_would_end_the_run_ends_the_plan(tmp_path: Path, source: Path) -> None:
    for settings in (Settings("mainframe"), Settings(series="no-such"), Settings(kernel_source=tmp_path / "none")):
        with pytest.raises(SealproofError):
            plan(settings, Store(tmp_path / "cache"))
    source.joinpath("Makefile").write_text(KERNEL.replace("= 12", "= 1"))
    with pytest.raises(SealproofError, match=r"6\.1\.117"):
        plan(Settings("emulated", "protected-memory", source), Store(tmp_path / "cache"))


def test_a_cache_that_cannot_be_made_ends_the_plan(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SealproofError, match=r"nothing can be written to .*file/cache") as caught:
        plan(Settings("emulated", "stock", source, mode=Mode.PLAIN), Store(tmp_path / "file/cache"))
    assert "--cache-folder" in caught.value.hint


def test_a_source_that_is_not_fetched_yet_ends_the_plan_in_a_line(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer: Package | None = None
    monkeypatch.setattr(debian_archive, "offered", lambda _: offer)
    (line,) = plan(Settings("emulated", "stock", "7.3"), Store(tmp_path / "cache"))
    words = "Debian's source of Linux 7.3, series stock: to be fetched, if an archive has it (none answers now)"
    assert str(line).split(None, 1)[1].startswith(words)
    offer = Package("linux-source-7.3", "7.3.4-1~bpo13+1")
    (line,) = plan(Settings("emulated", "protected-memory", "7.3"), Store(tmp_path / "cache"))
    assert "linux-source-7.3 7.3.4-1~bpo13+1, series protected-memory-7.3: to be fetched, then built" in str(line)
    offer = Package("linux-source-6.1", "6.1.170-3")
    with pytest.raises(KernelError, match=r"is made for Linux >=6\.12\.117,<6\.13, the source is Linux 6\.1\.170"):
        plan(Settings("emulated", "protected-memory", "6.1"), Store(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
    entry = tmp_path / "cache/debian-source/a"
    entry.mkdir(parents=True)
    with tarfile.open(entry / "linux-source-6.12_6.12.117-1.tar.xz", "w:xz") as tarball:
        tarball.add(source, "linux-source-6.12")
    lines = plan(Settings("emulated", "stock", "6.12"), Store(tmp_path / "cache"))
    assert "Linux 6.12.117, series stock" in str(lines[0])


def test_real_machine_is_said_to_be_leased_and_not_asked(tmp_path: Path) -> None:
    inventory = tmp_path / "lab.toml"
    inventory.write_text(WHOLE)
    lines = "\n".join(map(str, plan(Settings("rack1-07", inventory=inventory), Store(tmp_path / "cache"))))
    assert "  lease     rack1-07 (root@10.1.0.7:2200), given back after 60 s of silence at the latest" in lines
    assert "  boot      the kernel under test once, by grub; then its own again" in lines


def test_last_time_of_each_claim_counts(tmp_path: Path) -> None:
    part(tmp_path, 1, "one", {FIRST: Status.PASS, **WELL})
    part(tmp_path, 2, "one", {SECOND: Status.FAIL})
    part(tmp_path, 3, "one", {FIRST: Status.PASS, THIRD: Status.PASS}, mode=Mode.PLAIN)
    (tmp_path / "20300101T000000Z-broken").mkdir()
    (tmp_path / "20300101T000000Z-broken" / "record.json").write_text("{")
    seconds = last_seconds(tmp_path, Mode.PROTECTED)
    assert seconds == {FIRST: 1.5, SECOND: 1.5, **dict.fromkeys(WELL, 1.5)}
    assert describe([FIRST, SECOND, THIRD], seconds) == "3: 3.0 s last time, and 1 that never ran here"
    assert describe([THIRD], seconds) == "1: how long is not known yet"
    assert describe([], seconds) == "none"
    assert last_seconds(tmp_path / "none", Mode.PLAIN) == {}


def test_times_of_a_run_whose_set_up_failed_do_not_count(tmp_path: Path) -> None:
    part(tmp_path, 1, "one", {FIRST: Status.PASS})
    failed = part(tmp_path, 2, "one", {FIRST: Status.ERROR, SECOND: Status.ERROR}) / "claims.jsonl"
    failed.write_text(
        failed.read_text().replace('"seconds":1.5', '"seconds":0.0').replace('"seconds": 1.5', '"seconds": 0.0')
    )
    seconds = last_seconds(tmp_path, Mode.PROTECTED)
    assert seconds[FIRST] == 1.5
    assert SECOND not in seconds


def dry_run(tmp_path: Path, source: Path, run: Callable[[list[str]], object], *words: str, status: object = 0) -> None:
    assert status == run(
        [*words, "--kernel-source", str(source), "--series", "stock", "--mode", "plain", "-k", "ptrace_peekdata"]
    )
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "reports").exists()


def test_sign_off_that_is_only_planned(tmp_path: Path, source: Path) -> None:
    lines: list[str] = []

    def run(words: list[str]) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests_e2e", *words],
            cwd=PROJECT,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        lines.append(done.stdout + done.stderr)
        return done.returncode

    dry_run(tmp_path, source, run, "--dry-run", "--reports", str(tmp_path / "reports"))
    assert (
        "dry run: nothing is made, booted or leased\n  kernel    Linux 6.12.117, series stock, no patch: to be"
        in lines[0]
    )
    assert "\n  claims    1: how long is not known yet\n" in lines[0]
    assert "MISS" not in lines[0]


def test_plan_names_what_makes_it_no_sign_off_and_reads_an_inventory_that_is_named(
    tmp_path: Path, source: Path
) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests_e2e", "--dry-run", *words]
        variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        same = ["--kernel", str(source), "--series", "stock", "--mode", "plain"]
        done = subprocess.run(
            [*command, *same], cwd=PROJECT, env=variables, capture_output=True, text=True, check=False
        )
        return done.stdout

    assert "; not a sign-off: option --rootdir" in run("--rootdir", str(PROJECT))
    assert f"the set-up would fail: inventory: {tmp_path} cannot be read" in run("--inventory", str(tmp_path))


def test_plan_of_a_run_that_could_not_be_kept_says_so(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    words = ["--dry-run", "--reports", str(tmp_path / "file/reports"), "--kernel", str(source), "--series", "stock"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests_e2e", "--mode", "plain", *words],
        cwd=PROJECT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"the set-up would fail: reports: reports cannot be written to {tmp_path}/file/reports" in done.stdout


def test_fleet_that_is_only_planned(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reports = ["--reports", str(tmp_path / "reports")]
    dry_run(tmp_path, source, main, "run", "--dry-run", *reports, "--", "tests_e2e", "--group-size", "5")
    output = capfd.readouterr().out
    assert "claims: 1: how long is not known yet, in 1 group\n" in output
    assert "this machine:\n  kernel    Linux 6.12.117, series stock, no patch: to be made" in output
    words = ["run", "--dry-run", *reports, "--machine", "127.0.0.1:1", "--", "tests_e2e"]
    dry_run(tmp_path, source, main, *words, status=2)
    output = capfd.readouterr().out
    assert "root@127.0.0.1:1: would be left out: " in output
    dry_run(tmp_path, source, main, "run", "--dry-run", *reports, "--", "tests_e2e", "--host", "none-such", status=2)
    assert "the set-up would fail: --host: no host kind none-such" in capfd.readouterr().out
