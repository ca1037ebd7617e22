# SPDX-License-Identifier: GPL-2.0-or-later
"""Bochs is told of one machine, and its end is noticed with the reason. In Bochs's place runs fake_bochs.py."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import ImageError, MachineError, SetupError
from common.store import Store
from common.waiting import Deadline, poll_until
from host_setup.channels.vitals import Vitals
from host_setup.emulated import bochs as module
from host_setup.emulated.bochs import PRELOAD, Bochs, Machine, compile_here, configuration, forwarding

AT_ONCE = 60.0  # seconds, on a busy machine
FAKE = Path(__file__).with_name("fake_bochs.py")
MACHINE = Machine(
    768, Path("/run/boot.img"), {0x9000: Path("/run/words"), 1 << 20: Path("/run/kernel")}, {2022: 40001, 22: 40002}
)
BOOT = ["[    0.0] Linux version 6.12.117", "[    1.0] Run /bin/busybox as init process"]
OOPS = "[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000010"
TRIPLE = "00012345678p[CPU0  ] >>PANIC<< exception(): 3rd (14) exception with no resolution"

Start = Callable[..., Bochs]


def options(text: str) -> dict[str, dict[str, str]]:
    """The configuration, as Bochs reads it: options by their names, and what each sets."""
    parsed = (line.partition(":") for line in text.splitlines())
    return {
        name: dict(re.findall(r'([\w]+)=("[^"]*"|[^,\s]+)', rest)) if "=" in rest else {"": rest.strip()}
        for name, _, rest in parsed
    }


def test_it_is_told_of_one_intel_machine_with_our_images() -> None:
    settings = options(configuration(MACHINE, Path("/run"), 7, 8))
    assert settings["cpu"]["model"] == "corei7_haswell_4770"
    assert (settings["memory"]["guest"], settings["memory"]["host"]) == ("768", "768")
    assert settings["ata0-master"] == {
        "type": "disk",
        "mode": "volatile",
        "path": '"/run/boot.img"',
        "cylinders": "1",
        "heads": str(module.HEADS),
        "spt": str(module.PER_TRACK),
    }
    assert settings["optramimage1"] == {"file": '"/run/words"', "address": "0x9000"}
    assert settings["optramimage2"] == {"file": '"/run/kernel"', "address": "0x100000"}
    assert "optramimage1" not in options(configuration(replace(MACHINE, content={}), Path("/run"), 7, 8))
    assert settings["boot"] == {"": "disk"}
    assert (settings["com1"]["dev"], settings["com2"]["dev"]) == ("/dev/fd/7", "/dev/fd/8")
    assert settings["e1000"]["script"] == '"/run/slirp.conf"'


def test_a_triple_fault_or_another_panic_ends_it() -> None:
    settings = options(configuration(MACHINE, Path("/run"), 7, 8))
    assert settings["cpu"]["reset_on_triple_fault"] == "0"
    assert settings["panic"] == {"action": "fatal"}


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "$HOME", "ä", "x" * 300])
def test_a_path_that_its_configuration_cannot_hold_is_refused(name: str) -> None:
    for wrong in (replace(MACHINE, disk=Path("/run", name)), replace(MACHINE, content={0: Path("/run", name)})):
        with pytest.raises(MachineError, match="cannot be told"):
            configuration(wrong, Path("/run"), 7, 8)
    with pytest.raises(MachineError, match="cannot be told"):
        configuration(MACHINE, Path("/run", name), 7, 8)


def test_its_network_leads_from_our_loopback_in_and_nowhere_out() -> None:
    lines = forwarding(MACHINE.forwards).splitlines()
    assert lines[0] == "# slirp config"  # or Bochs reads none of it
    assert "restricted=1" in lines
    assert [line for line in lines if line.startswith("hostfwd")] == [
        "hostfwd=tcp:127.0.0.1:40001-10.0.2.15:2022",
        "hostfwd=tcp:127.0.0.1:40002-10.0.2.15:22",
    ]


def test_more_ports_than_it_forwards_are_refused() -> None:
    assert forwarding({port: port for port in range(1, 6)})
    with pytest.raises(MachineError, match="5 ports at most, not 6"):
        forwarding({port: port for port in range(1, 7)})


@pytest.fixture
def vitals() -> Vitals:
    return Vitals("the host")


@pytest.fixture
def beats() -> list[str]:
    return []


@pytest.fixture
def start(tmp_path: Path, vitals: Vitals, beats: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a fake Bochs that follows a script."""
    program, bios = tmp_path / "bochs-bin", tmp_path / "bios"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKE}" "$@"\n')
    program.chmod(0o755)
    bios.touch()
    for name, value in (("PROGRAM", str(program)), ("BIOS", bios), ("VGA_BIOS", bios)):
        monkeypatch.setattr(module, name, value)
    started: list[Bochs] = []

    def run(*, saves: Path | None = None, state: Path | None = None, **script: Any) -> Bochs:
        folder = tmp_path / "host"
        folder.mkdir()
        (folder / "script.json").write_text(json.dumps(script))
        more: dict[str, Any] = {"library": tmp_path / "none.so", "saves": saves, "state": state}
        bochs = Bochs(MACHINE, vitals=vitals, folder=folder, on_beat=beats.append, **more)
        started.append(bochs)
        return bochs

    yield run
    for bochs in started:
        bochs.kill()


def reason(vitals: Vitals) -> str:
    return poll_until(lambda: vitals.reason, Deadline(AT_ONCE), "the death to be noticed")


def test_running_machine_beats_and_speaks(start: Start, vitals: Vitals, beats: list[str]) -> None:
    bochs = start(console=BOOT, beats=["host=1 plain=-1", "host=2 plain=1"])
    poll_until(lambda: len(beats) == 2, Deadline(AT_ONCE), "heartbeats")
    assert [line.strip() for line in beats] == ["host=1 plain=-1", "host=2 plain=1"]
    poll_until(lambda: "init process" in bochs.console(), Deadline(AT_ONCE), "the console")
    assert BOOT[1] in bochs.explain()
    vitals.check()


def test_dying_kernel_is_told_from_an_emulator_that_ends(start: Start, vitals: Vitals) -> None:
    start(console=[*BOOT, OOPS], stderr=[TRIPLE], then="exit 1")
    assert reason(vitals).splitlines() == [f"kernel died: {OOPS}", TRIPLE, *BOOT, OOPS]
    assert vitals.harm


def test_end_of_bochs_is_told_with_its_panic_alone(start: Start, vitals: Vitals) -> None:
    start(console=BOOT, stderr=["00000000000e[CMOS  ] remark", TRIPLE], then="exit 1")
    assert reason(vitals).splitlines() == ["its Bochs ended with status 1", TRIPLE, *BOOT]
    assert not vitals.harm


def test_it_saves_itself_where_it_was_told_to_when_it_is_asked(start: Start, tmp_path: Path) -> None:
    bochs = start(saves=tmp_path, console=BOOT, beats=["host=1"], saved="1")
    poll_until(bochs.console, Deadline(AT_ONCE), "the console")
    bochs.save()
    assert (tmp_path / "saved").read_text() == "1"


def test_bochs_that_cannot_save_itself_or_was_not_to_says_so(start: Start, tmp_path: Path) -> None:
    bochs = start(saves=tmp_path, console=BOOT, saved="0")
    poll_until(bochs.console, Deadline(AT_ONCE), "the console")
    with pytest.raises(MachineError, match="cannot write its state"):
        bochs.save()
    bochs._saves = None
    with pytest.raises(MachineError, match="was not started to be saved"):
        bochs.save()


def test_it_goes_on_from_a_saved_state_with_a_configuration_of_its_own(start: Start, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "console").write_text("I go on\n")
    (state / "config").write_text("plugin_ctrl: serial=1, e1000=1\ncom1: of another\n")
    bochs = start(state=state)
    poll_until(lambda: "I go on" in bochs.console(), Deadline(AT_ONCE), "the console")
    ours = tmp_path / "host" / "state"
    assert options((ours / "config").read_text())["memory"]["guest"] == "768"
    # As Bochs loads them where it boots: by default, and then what the configuration adds.
    named = options((ours / "config").read_text())["plugin_ctrl"]
    assert list(named) == ["biosdev", "iodebug", "parallel", "gameport", "extfpuirq", "serial", "unmapped", "e1000"]
    assert set(named.values()) == {"1"}
    assert (state / "config").read_text() == "plugin_ctrl: serial=1, e1000=1\ncom1: of another\n"


SIMULATOR = """
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

int wgetch(void *window), refresh(void);
char here = 'S';
void *SIM = &here;

bool save(void *simulator, const char *folder) __asm__("_ZN13bx_real_sim_c10save_stateEPKc");
bool save(void *simulator, const char *folder)
{
    printf("%c %s\\n", *(char *)simulator, folder);
    fflush(stdout);
    return true;
}

int main(void)
{
    printf("up\\n");
    fflush(stdout);
    while (wgetch(NULL) == -1 && refresh() == 0)
        usleep(1000);
    return 1;
}
"""


READER = """
#include <stdio.h>
#include <unistd.h>

static char room[3 << 20];

int main(void)
{
    printf("%zd\\n", read(0, room, sizeof(room)));
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_library_reads_no_more_at_once_than_a_block_of_the_machines_memory(tmp_path: Path) -> None:
    (tmp_path / "reader.c").write_text(READER)
    program = tmp_path / "reader"
    subprocess.run(["gcc", "-o", program, tmp_path / "reader.c"], check=True)
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    env = {"LD_PRELOAD": str(compile_here(PRELOAD, Store(tmp_path / "cache"), "-shared", "-fPIC"))}
    with (tmp_path / "file").open("rb") as file:
        done = subprocess.run([program], env=env, stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout == f"{128 << 10}\n"


def test_what_does_not_compile_is_told_with_the_lines(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int main(void) { return none; }\n")
    with pytest.raises(ImageError, match=r"wrong\.c does not compile(?s:.*)'none' undeclared"):
        compile_here(tmp_path / "wrong.c", Store(tmp_path / "cache"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_library_has_bochs_save_itself_between_two_looks_for_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.c").write_text("int wgetch(void *w) { (void)w; return 7; }\nint refresh(void) { return 7; }\n")
    (tmp_path / "simulator.c").write_text(SIMULATOR)
    keys, program = tmp_path / "libkeys.so", tmp_path / "simulator"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", keys, tmp_path / "keys.c"], check=True)
    subprocess.run(["gcc", "-rdynamic", "-o", program, tmp_path / "simulator.c", keys], check=True)
    library = compile_here(PRELOAD, Store(tmp_path / "cache"), "-shared", "-fPIC")
    env = {"LD_PRELOAD": str(library), "SEALPROOF_SAVE": str(tmp_path)}
    with subprocess.Popen([program], env=env, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        try:
            assert simulator.stdout.readline() == "up\n"
            simulator.send_signal(signal.SIGUSR1)
            assert simulator.stdout.readline() == f"S {tmp_path}\n"
            result = tmp_path / "saved"
            poll_until(lambda: result.exists() and result.read_text(), Deadline(AT_ONCE), "the result")
            assert result.read_text() == "1"
            assert simulator.poll() is None
        finally:
            simulator.kill()


def test_bochs_that_heeds_nothing_is_ended(start: Start, vitals: Vitals) -> None:
    bochs = start(console=BOOT)
    poll_until(lambda: "init process" in bochs.console(), Deadline(AT_ONCE), "the console")
    bochs.kill()
    assert (bochs.has_ended, vitals.reason) == (True, "it was ended by the run")


def test_stopped_machine_takes_no_time_and_goes_on(start: Start) -> None:
    bochs = start(console=BOOT)
    poll_until(lambda: "init process" in bochs.console(), Deadline(AT_ONCE), "the console")

    def state() -> str:
        return Path(f"/proc/{bochs.pid}/stat").read_text().rpartition(") ")[2].split()[0]

    bochs.stop()
    poll_until(lambda: state() == "T", Deadline(AT_ONCE), "it to be stopped")
    bochs.go_on()
    poll_until(lambda: state() == "S", Deadline(AT_ONCE), "it to go on")
    bochs.stop()
    bochs.kill()
    assert bochs.has_ended


def test_bios_that_is_not_there_is_told_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BIOS", tmp_path / "none")
    with pytest.raises(SetupError, match="none"):
        Bochs(MACHINE, vitals=Vitals("the host"), folder=tmp_path, on_beat=print, library=tmp_path)
