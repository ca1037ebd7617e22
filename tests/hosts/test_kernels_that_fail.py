# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel under test does not come up, or goes down: whatever it does, the machine's own one is back afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from common.errors import KernelError, MachineError
from host_setup.kernel.build import BuiltKernel
from host_setup.remote.leased import bring_back_on_error
from tests.hosts.bench import LEASE, Bench, impatient
from tests.hosts.standin.hanging import hanging

HANG = 120  # seconds after which a kernel that says nothing is given up
PANIC = "rdinit=/none root=/none"  # the kernel finds no root file system, and panics
WAYS = pytest.mark.parametrize("boot", ["kexec", "grub"])


def hung(bench: Bench) -> BuiltKernel:
    """The kernel, but that it stops before it says a word."""
    image = bench.folder / "hanging"
    image.write_bytes(hanging(bench.kernel.image.read_bytes()))
    return replace(bench.kernel, image=image)


@WAYS
def test_kernel_that_hangs(bench: Bench, say: Callable[[str], None], boot: str) -> None:
    """The kernel hangs: its power is cut."""
    leased = bench.lease(boot=boot)
    patient = leased.machine
    with pytest.raises(KernelError) as caught, bring_back_on_error(leased):
        leased.provision(hung(bench), bench.programs)
        leased.machine = impatient(patient, HANG)
        try:
            leased.boot()
        finally:
            leased.machine = patient
    assert f"waited {HANG} s" in caught.value.message
    say(caught.value.message.splitlines()[0])


def test_kernel_that_hangs_where_no_power_is_to_be_cut(bench: Bench, say: Callable[[str], None]) -> None:
    """The kernel hangs, and only a person can switch the machine off and on: then it comes back by itself."""
    leased = bench.lease(power=None, lease={"seconds": LEASE}, limits={"boot": 40})
    with pytest.raises(MachineError, match="did not come back") as caught, bring_back_on_error(leased):
        leased.provision(hung(bench), bench.programs)
        leased.boot()
    assert "switch it off and on" in caught.value.hint
    bench.switch_off_and_on()
    bench.wait_until_gone()
    say(caught.value.message.splitlines()[0])


@WAYS
def test_kernel_that_panics(bench: Bench, say: Callable[[str], None], boot: str) -> None:
    """The kernel panics while it boots."""
    leased = bench.lease(boot=boot, command_line=PANIC)
    with pytest.raises(KernelError, match="back on its own") as caught, bring_back_on_error(leased):
        leased.provision(bench.kernel, bench.programs)
        leased.boot()
    assert "Kernel panic" in leased.console.text()
    say(caught.value.message.splitlines()[0])


def test_kernel_that_panics_later(bench: Bench, say: Callable[[str], None]) -> None:
    """The kernel panics while the run is at work: it is booted again, and the machine comes back."""
    leased = bench.lease()
    with bring_back_on_error(leased):
        leased.provision(bench.kernel, bench.programs)
        leased.boot()
        before = bench.boot_id()
        bench.run("systemd-run", "--quiet", "--on-active=1", "sh", "-c", "echo c > /proc/sysrq-trigger")
        bench.wait_for_another_boot(before)
        leased.recover()
    leased.restore()
    assert "sysrq triggered crash" in leased.console.text()
    say("it ran the kernel once more")


def test_power_is_cut_while_the_kernel_runs(bench: Bench, say: Callable[[str], None]) -> None:
    """The power is cut while the kernel runs."""
    leased = bench.lease(boot="grub")
    with bring_back_on_error(leased):
        leased.provision(bench.kernel, bench.programs)
        leased.boot()
        bench.switch_off_and_on()
    leased.restore()
    say("its own kernel came up, and the rest was taken back")
