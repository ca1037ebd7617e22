# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection is cut, or the run is killed: when the lease is over the machine gives itself back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from common.errors import MachineError
from common.paths import PROJECT
from host_setup.inventory import Remote
from host_setup.remote.leased import Leased, LeaseState, bring_back_on_error
from tests.hosts.bench import LEASE, Bench, impatient, run_program
from tests.hosts.standin.machine import write_inventory
from tests.hosts.standin.wire import Wire

GIVEN_UP = 20  # seconds after which a run whose connection was cut is to give up
MIDDLE = 2 << 20  # bytes: in the middle of a kernel
TIMEOUT = 600.0
BACK = "the machine gave itself back"


@pytest.fixture
def wire(bench: Bench) -> Iterator[Wire]:
    """The way to the machine, which can be cut."""
    wire = Wire(bench.standin.port)
    yield wire
    wire.close()


@pytest.mark.parametrize("when", [LeaseState.LEASED, LeaseState.PROVISIONED, LeaseState.BOOTING, LeaseState.BOOTED])
def test_connection_is_cut(bench: Bench, wire: Wire, say: Callable[[str], None], when: LeaseState) -> None:
    """The connection is cut once the machine is ..."""
    runs: list[Leased] = []

    def on_state(state: LeaseState) -> None:
        if state is when:
            wire.cut()
            for run in runs:
                run.machine = impatient(run.machine, GIVEN_UP)

    output = _fails(bench, wire, on_state, runs)
    assert wire.is_cut
    bench.wait_until_gone()
    say(f"{output}; {BACK}")


def test_connection_is_cut_while_the_kernel_is_copied(bench: Bench, wire: Wire, say: Callable[[str], None]) -> None:
    """The connection is cut in the middle of the kernel's copy."""
    runs: list[Leased] = []

    def on_state(state: LeaseState) -> None:
        if state is LeaseState.LEASED:
            wire.cut_after(MIDDLE)

    output = _fails(bench, wire, on_state, runs, boot=GIVEN_UP)
    assert wire.is_cut
    assert runs[0].state is LeaseState.BROKEN
    bench.wait_until_gone()
    say(f"{output}; {BACK}")


def test_connection_is_cut_on_the_way_back(bench: Bench, wire: Wire, say: Callable[[str], None]) -> None:
    """The connection is cut once the machine was ordered back."""
    leased = bench.lease(**_entry(wire))
    with bring_back_on_error(leased):
        leased.provision(bench.kernel, bench.programs)
        leased.boot()
    leased.machine = impatient(leased.machine, GIVEN_UP)
    order = leased.control.keeper

    def once(verb: str, *words: str, seconds: float = 30) -> object:
        done = order(verb, *words, seconds=seconds)
        wire.cut()
        return done

    leased.control.keeper = once  # type: ignore[assignment,method-assign]
    with pytest.raises(MachineError, match="did not come back") as caught:
        leased.restore()
    bench.wait_until_gone()
    say(f"{caught.value.message.splitlines()[0]}; {BACK}")


def _entry(wire: Wire) -> dict[str, object]:
    """What an inventory says of a machine that nobody can switch off and on, behind a wire."""
    return {"port": wire.port, "power": None, "lease": {"seconds": LEASE}}


def _fails(
    bench: Bench, wire: Wire, on_state: Callable[[LeaseState], None], runs: list[Leased], *, boot: int | None = None
) -> str:
    """Have a run fail, as it is cut off from the machine; what it said."""
    with pytest.raises(MachineError) as caught:
        leased = bench.lease(on_state, **_entry(wire))
        runs.append(leased)
        if wire.is_cut or boot is not None:
            leased.machine = impatient(leased.machine, boot or GIVEN_UP)
        with bring_back_on_error(leased):
            leased.provision(bench.kernel, bench.programs)
            leased.boot()
            leased.control.run(["true"], seconds=GIVEN_UP)
    return caught.value.message.splitlines()[0]


@pytest.mark.parametrize("when", [LeaseState.PROVISIONED, LeaseState.BOOTING, LeaseState.BOOTED])
def test_run_is_killed(
    bench: Bench, say: Callable[[str], None], request: pytest.FixtureRequest, when: LeaseState
) -> None:
    """The run is killed with SIGKILL once the machine is ..."""
    status, output = _dies(bench, request, when, signal.SIGKILL)
    assert status == -signal.SIGKILL, output
    bench.wait_until_gone()
    say(BACK)


def test_run_is_told_to_end(bench: Bench, say: Callable[[str], None], request: pytest.FixtureRequest) -> None:
    """The run is told to end (SIGTERM) once the kernel runs: it brings the machine back first."""
    status, output = _dies(bench, request, LeaseState.BOOTED, signal.SIGTERM)
    assert status > 0, output
    assert "way back of standin" in output, output
    assert bench.run("cat", "/proc/version").startswith("Linux version")
    say("it brought the machine back")


def _dies(bench: Bench, request: pytest.FixtureRequest, when: LeaseState, by: signal.Signals) -> tuple[int, str]:
    entry: Remote = bench.standin.entry(lease={"seconds": LEASE})
    inventory = write_inventory(bench.folder / "dies.toml", entry)
    words = [str(PROJECT / "tests/hosts" / "run_that_dies.py"), when, by.name, str(inventory)]
    words.append(request.config.option.series)
    return run_program(words, bench.folder / f"dies-{when}-{by.name}.log", TIMEOUT)
