# SPDX-License-Identifier: GPL-2.0-or-later
"""The nested host, up to its accelerator: when it is chosen, what it is started with, what is said without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserInputError
from host_setup.channels.ssh import Completed
from host_setup.emulated import host as module
from host_setup.emulated.host import EMULATION, EmulatedHost, EmulatedSpec, nesting
from host_setup.provision import accelerator
from host_setup.this_machine import HostKind, Survey, why_not_nested
from tests.unit.machine_samples import spec
from tests.unit.test_doctor import WORKS, FakeMachine
from tests.unit.test_emulated import FakeQemu

INVENTORY = '[machine.here]\nkind = "nested"\n[machine.slow]\nkind = "emulated"\n'


def look_at(folder: Path, extension: str, *, works: bool = True) -> Survey:
    fake = FakeMachine(folder)
    fake.processor("Some CPU", f"fpu {extension}")
    fake.module("kvm_intel" if extension == "vmx" else "kvm_amd", "Y" if works else "N")
    fake.trial = WORKS
    return fake.survey()


def nested_spec(extension: str = "svm", processor: str = "Some CPU") -> EmulatedSpec:
    return replace(spec(), accelerator=nesting(processor, extension))


@pytest.mark.parametrize("extension", ["svm", "vmx"])
def test_nested_host_is_chosen_by_auto_where_it_works(tmp_path: Path, extension: str) -> None:
    machine = look_at(tmp_path, extension)
    for option in ("auto", "nested"):
        chosen = accelerator(option, None, machine)
        assert (chosen.kind, chosen.processor) == (HostKind.NESTED, "Some CPU")
        assert chosen.cpu == f"host,{extension}=on,enforce=on"
    assert accelerator("emulated", None, machine) is EMULATION


def test_nested_host_that_cannot_be_is_not_chosen_and_asked_for_says_why(tmp_path: Path) -> None:
    machine = look_at(tmp_path, "svm", works=False)
    assert accelerator("auto", None, machine) is EMULATION
    with pytest.raises(UserInputError) as caught:
        accelerator("nested", None, machine)
    assert why_not_nested(machine) in caught.value.message
    assert "make doctor" in caught.value.hint


def test_machine_of_the_inventory_is_known_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(INVENTORY)
    machine = look_at(tmp_path / "root", "vmx")
    assert accelerator("here", file, machine).kind is HostKind.NESTED
    assert accelerator("slow", file, machine) is EMULATION
    with pytest.raises(UserInputError, match="no host kind there, and no such machine in the inventory"):
        accelerator("there", file, machine)


def test_only_accelerator_and_processor_differ_from_the_emulated_host() -> None:
    ours, theirs = nested_spec().argv(), spec().argv()
    differ = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    assert differ == [("kvm", EMULATION.argument), ("host,svm=on,enforce=on", EMULATION.cpu)]


def test_saved_state_belongs_to_one_kind_and_one_processor() -> None:
    keys = {table.key for table in (spec(), nested_spec(), nested_spec("vmx"), nested_spec(processor="Other CPU"))}
    assert len(keys) == 4


class Kernel:
    """A session with a host, which tells its command line."""

    def __init__(self, words: str) -> None:
        self._words = words

    def run(self, argv: list[str], *, seconds: float) -> Completed:
        assert argv == ["cat", "/proc/cmdline"]
        assert seconds
        return Completed(tuple(argv), 0, f"{self._words}\n".encode(), b"")


def test_report_says_on_which_processor_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Qemu", FakeQemu)
    monkeypatch.setattr("guest_images.rootfs.RootFs.version", lambda *_: "10.0")
    words = f"{nested_spec('vmx').command_line} tsc_early_khz=2596139"  # as an earlier run has measured it
    monkeypatch.setattr(EmulatedHost, "ssh", Kernel(words))
    host = EmulatedHost(nested_spec("vmx"), tmp_path)
    assert host.tier == "nested"
    assert host.identity()["kind"] == "nested (QEMU on KVM, vmx)"
    assert host.identity()["cpu"] == "Some CPU"
    assert host.identity()["command line"] == words
    host.close()
