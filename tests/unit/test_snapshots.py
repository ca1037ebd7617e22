# SPDX-License-Identifier: GPL-2.0-or-later
"""What is restored is what was saved, or a host is booted cold and that is told. The hosts are fakes here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from common.errors import ChannelError, DeadlineError, HarmError, MachineError, MachineLostError
from common.progress import Terminal
from common.store import Store
from host_setup.channels.vitals import Vitals
from host_setup.emulated import snapshots as module
from host_setup.emulated.saved import FIRST_BOOTS, WRONG_CLOCK, NotPristineError
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.guest_spec import PLAIN, PROTECTED
from host_setup.hosts.pool import HostPool
from tests.unit.machine_samples import FakeSsh, spec

SIZE = 1 << 10
GUESTS = (PROTECTED, PLAIN)


class FakeHost:
    """A host whose memory is two nonces and how often they were asked for; a restored one has them from the stream.

    Tests change what happens by ``restored``, called with each host that was loaded, and ``booted``.
    """

    all: ClassVar[list[FakeHost]] = []
    restored: Callable[[FakeHost], None] = staticmethod(lambda _: None)
    booted: Callable[[FakeHost], None] = staticmethod(lambda _: None)

    def __init__(self, spec: Any, folder: Path, *, memory: Path | None = None, state: Path | None = None) -> None:
        self.spec, self.folder, self.memory_file, self.state = spec, folder, memory, state
        self.lost: str | None = None
        self.vitals = Vitals("the host")
        self.all_guests: tuple[Any, ...] = ()
        self.qemu, self.ssh = None, FakeSsh()
        self.memory: dict[str, dict[str, Any]] = {
            who: {"nonce": "", "asked": 0} for who in ("host", *(guest.name for guest in GUESTS))
        }
        self.closed = self.detached = self.rested = self.resumed = self.saves = self.slept = 0
        self.garbage = ""
        self.all.append(self)
        if state is not None:
            self.memory = json.loads(state.read_text())
            type(self).restored(self)

    def boot(self) -> None:
        type(self).booted(self)

    def sleep(self) -> None:
        self.slept += 1

    def boot_alone(self) -> None:
        assert not self.spec.guests
        type(self).booted(self)

    def nonces(self) -> dict[str, str]:
        texts = {who: self.garbage or json.dumps(memory) for who, memory in self.memory.items()}
        for memory in self.memory.values():
            memory["asked"] += 1
        return texts

    def set_nonces(self, nonces: dict[str, str]) -> None:
        assert set(nonces) == set(self.memory)
        for who, nonce in nonces.items():
            self.memory[who]["nonce"] = nonce

    def save(self, state: Path) -> None:
        assert self.detached, "nobody is logged in to a saved host"
        assert self.rested >= self.detached, "a saved host has come to rest since"
        self.saves += 1
        state.write_text(json.dumps(self.memory))

    def detach(self) -> None:
        self.detached += 1

    def rest(self) -> None:
        self.rested = self.detached

    def resume(self) -> None:
        self.resumed += 1

    def kernel_log(self) -> str:
        return f"log of {self.folder.name}"

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHost, "all", [])
    monkeypatch.setattr(FakeHost, "restored", staticmethod(lambda _: None))
    monkeypatch.setattr(FakeHost, "booted", staticmethod(lambda _: None))
    monkeypatch.setattr(module, "EmulatedHost", FakeHost)
    monkeypatch.setattr(module, "MIB", SIZE)


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def hosts(tmp_path: Path, notes: list[str]) -> EmulatedHosts:
    return EmulatedHosts(
        spec(guests=GUESTS), Store(tmp_path / "store"), Terminal(), tmp_path / "hosts", note=notes.append
    )


def open_hosts() -> list[FakeHost]:
    return [host for host in FakeHost.all if not host.closed]


def test_first_host_is_saved_tried_and_then_restored(hosts: EmulatedHosts, notes: list[str]) -> None:
    started = hosts.start()
    booted, tried, restored = FakeHost.all
    assert (booted.state, booted.saves, booted.closed) == (None, 1, 1)
    assert tried.closed == 1
    assert restored is started
    assert booted.memory_file == tried.memory_file, "it boots into the file that is kept"
    assert restored.memory_file == hosts.saved_state().folder / module.MEMORY
    assert hosts.cold().memory_file is None
    nonces = {str(memory["nonce"]) for memory in restored.memory.values()}
    assert [len(nonce) for nonce in nonces] == [32] * 3
    assert open_hosts()[0] is started
    assert (hosts.fallbacks, notes) == (0, [])


def test_saved_state_is_made_once_and_holds_the_first_boots_log(hosts: EmulatedHosts) -> None:
    assert hosts.saved_state().boot_log == "log of host-1"
    hosts.saved_state()
    assert len(FakeHost.all) == 2
    assert (hosts.saved_state().folder / module.STATE).exists()


def wrong_nonce(host: FakeHost) -> None:
    host.memory["plain"]["nonce"] = "of another boot"


def lacks_a_guest(host: FakeHost) -> None:
    del host.memory["protected"]


def use_before(host: FakeHost) -> None:
    host.nonces()


def swap(host: FakeHost) -> None:
    host.memory |= {"plain": host.memory["protected"], "protected": host.memory["plain"]}


def garbage(host: FakeHost) -> None:
    host.garbage = "\x00\x00"


def nothing(host: FakeHost) -> None:
    host.memory["host"] = {"nonce": "", "asked": 0}


@pytest.mark.parametrize("wrong", [wrong_nonce, use_before, swap, garbage, nothing, lacks_a_guest])
def test_restore_that_proves_wrong_is_told_counted_and_replaced_by_a_cold_boot(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch, wrong: Callable[[FakeHost], None]
) -> None:
    hosts.saved_state()
    monkeypatch.setattr(FakeHost, "restored", staticmethod(wrong))
    started = hosts.start()
    assert started.state is None
    assert open_hosts() == [started]
    assert hosts.fallbacks == 1
    assert len(notes) == 1
    assert notes[0].startswith("restore failed, booting cold instead: restore: ")
    with pytest.raises(NotPristineError):
        hosts.restore(hosts.saved_state())


@pytest.mark.parametrize("error", [MachineLostError("panic"), DeadlineError("slow"), ChannelError("no SSH")])
def test_restore_that_fails_is_told_counted_and_replaced_by_a_cold_boot(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    hosts.saved_state()

    def fail(_: FakeHost) -> dict[str, str]:
        raise error

    monkeypatch.setattr(FakeHost, "nonces", fail)
    started = hosts.start()
    assert open_hosts() == [started]
    assert hosts.fallbacks == 1
    assert error.args[0] in notes[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupted_restore_is_no_reason_to_boot_and_leaves_no_host(
    hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    hosts.saved_state()

    def fail(_: FakeHost) -> dict[str, str]:
        raise error

    monkeypatch.setattr(FakeHost, "nonces", fail)
    with pytest.raises(error):
        hosts.start()
    assert open_hosts() == []
    assert hosts.fallbacks == 0


def test_host_that_does_not_even_boot_cold_is_ended(hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: FakeHost) -> None:
        raise MachineLostError("panic")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(fail))
    with pytest.raises(MachineLostError):
        hosts.start()
    assert open_hosts() == []
    monkeypatch.setattr(FakeHost, "booted", staticmethod(lambda _: None))
    hosts.start()  # and the failure left no entry in the cache


def test_first_boot_that_the_emulation_loses_is_told_and_tried_again(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_first(host: FakeHost) -> None:
        assert host.memory_file is not None
        assert not host.memory_file.exists(), "each boot starts with empty memory"
        host.memory_file.write_bytes(b"used")
        if len(FakeHost.all) == 1:
            raise MachineLostError("its QEMU ended with status 0")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(lose_the_first))
    hosts.saved_state()
    (note,) = notes
    assert "tried again" in note
    assert "its QEMU ended with status 0" in note
    assert FakeHost.all[0].closed == 1


def test_first_boot_in_which_a_process_died_is_told_and_not_saved(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = "[   25.7] qemu-system-x86[99]: segfault at 0 ip 00007f9e4c4db110 sp 00007ffea685e218 error 4"
    monkeypatch.setattr(FakeHost, "kernel_log", lambda host: fault if host is FakeHost.all[0] else "")
    hosts.saved_state()
    (note,) = notes
    assert "a process of the host died while it booted" in note
    assert fault in note


def test_first_boot_with_wrong_clocks_is_told_and_not_saved(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"[    6.842641] kvm: {WRONG_CLOCK}"
    monkeypatch.setattr(FakeHost, "kernel_log", lambda host: line if host is FakeHost.all[0] else "")
    hosts.saved_state()
    (note,) = notes
    assert "the clocks of its guests are wrong" in note


def test_first_boot_is_not_tried_for_ever(hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: FakeHost) -> None:
        raise MachineLostError("its QEMU ended with status 0")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(fail))
    with pytest.raises(MachineLostError):
        hosts.saved_state()
    assert len(FakeHost.all) == FIRST_BOOTS
    assert open_hosts() == []


def test_first_boot_whose_kernel_complained_is_not_tried_again(
    hosts: EmulatedHosts, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FakeHost) -> None:
        raise MachineLostError("kernel died")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(fail))
    monkeypatch.setattr(FakeHost, "kernel_log", lambda _: "[    1.0] BUG: unable to handle page fault")
    with pytest.raises(MachineLostError):
        hosts.saved_state()
    assert (len(FakeHost.all), notes) == (1, [])


def test_first_boot_that_the_kernel_under_test_does_not_survive_is_its_fault(
    hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(host: FakeHost) -> None:
        host.vitals.note_loss("kernel died: Oops", harm=True)
        raise MachineLostError("the host is lost: kernel died: Oops")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(die))
    with pytest.raises(HarmError, match="the host does not come up: the host is lost: kernel died: Oops"):
        hosts.saved_state()


def test_state_that_cannot_be_loaded_is_saved_again_in_another_moment(
    hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [1, 2]

    def load(_: FakeHost) -> None:
        if refusals:
            refusals.pop()
            raise MachineLostError("vCPU set in guest-mode")

    monkeypatch.setattr(FakeHost, "restored", staticmethod(load))
    hosts.saved_state()
    assert (FakeHost.all[0].saves, FakeHost.all[0].resumed) == (3, 2)


def test_state_that_can_never_be_loaded_is_no_saved_state(
    hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: FakeHost) -> None:
        raise MachineLostError("vCPU set in guest-mode")

    monkeypatch.setattr(FakeHost, "restored", staticmethod(load))
    with pytest.raises(MachineError, match=r"of 10 saved states none could be loaded; the last error: .*guest-mode"):
        hosts.saved_state()
    assert FakeHost.all[0].closed == 1
    monkeypatch.setattr(FakeHost, "restored", staticmethod(lambda _: None))
    assert (hosts.saved_state().folder / module.STATE).exists()


def test_each_host_has_a_folder_of_its_own_and_an_old_runs_is_emptied(hosts: EmulatedHosts, tmp_path: Path) -> None:
    old = tmp_path / "hosts" / "host-1" / "console.log"
    old.parent.mkdir(parents=True)
    old.write_text("of another run")
    hosts.start()
    hosts.start()
    assert not old.exists()
    folders = [host.folder for host in FakeHost.all]
    assert len(set(folders)) == len(folders) == 4


# --- the pool


@pytest.fixture
def pool(hosts: EmulatedHosts) -> HostPool:
    return HostPool(hosts)


def test_harmless_probes_share_a_host(pool: HostPool) -> None:
    assert pool.shared_host() is pool.shared_host()
    assert pool.lost == []


def test_each_shared_host_is_shown_and_the_very_first_one_whatever_it_is_for(hosts: EmulatedHosts) -> None:
    shown: list[object] = []
    pool = HostPool(hosts, shown.append)
    with pool.fresh() as fresh:
        assert shown == [fresh]
    with pool.fresh(), pool.fresh_with_cmdline("quiet"):
        pool.shared_with_cmdline("quiet")
    first: Any = pool.shared_host()
    first.lost = "stalled"
    assert shown == [fresh, first]
    assert shown == [fresh, first, pool.shared_host()]
    for start in (
        lambda pool: pool.fresh_with_cmdline("quiet"),
        lambda pool: contextlib.nullcontext(pool.shared_with_cmdline("quiet")),
    ):
        shown.clear()
        with start(HostPool(hosts, shown.append)) as host:
            assert shown == [host]


def test_hosts_that_nobody_uses_sleep(pool: HostPool) -> None:
    shared: Any = pool.shared_host()
    assert shared.slept == 0
    other: Any = pool.shared_with_cmdline("quiet")
    assert (shared.slept, other.slept) == (1, 0)
    fresh: Any
    with pool.fresh() as fresh:
        assert (shared.slept, other.slept) == (2, 1)
        pool.shared_host()
        assert (shared.slept, other.slept, fresh.slept) == (2, 2, 1)
        fresh.lost = "guest plain: stalled"
        with pool.fresh_with_cmdline("slow"):
            assert (shared.slept, other.slept, fresh.slept) == (3, 3, 2)


def test_host_that_is_handed_out_is_awake(pool: HostPool) -> None:
    woken: list[int] = []
    pool.shared_host().vitals.asleep(lambda: woken.append(1))
    pool.shared_host()
    assert woken == [1]


def test_fresh_host_that_cannot_be_shown_is_ended(hosts: EmulatedHosts) -> None:
    def fail(_: object) -> None:
        raise MachineLostError("it went")

    pool = HostPool(hosts, fail)
    for start in (pool.fresh, lambda: pool.fresh_with_cmdline("quiet")):
        with pytest.raises(MachineLostError), start():
            pass
        assert open_hosts() == []
    for share in (pool.shared_host, lambda: pool.shared_with_cmdline("quiet")):
        with pytest.raises(MachineLostError):
            share()
    pool.close()
    assert open_hosts() == []


def test_lost_host_or_guest_is_replaced_and_listed_once(pool: HostPool) -> None:
    first: Any = pool.shared_host()
    first.lost = "stalled"
    second = pool.shared_host()
    assert second is not first
    assert first.closed == 1
    assert pool.shared_host() is second
    assert pool.lost == ["stalled"]
    assert f"log of {first.folder.name}" in pool.kernel_logs()


def test_where_there_is_one_machine_the_shared_host_ends_before_a_fresh_one_starts(
    pool: HostPool, hosts: EmulatedHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pool.shared_host()
    with pool.fresh():
        assert first.closed == 0
    monkeypatch.setattr(hosts, "one_at_a_time", True)
    with pool.fresh() as fresh:
        assert (first.closed, fresh.closed) == (1, 0)
        assert f"log of {first.folder.name}" in pool.kernel_logs()
    assert fresh.closed == 1
    assert pool.shared_host() is not first
    assert pool.lost == []


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_fresh_host_is_used_once_and_ended_whatever_happens(pool: HostPool, error: type[BaseException] | None) -> None:
    shared = pool.shared_host()

    def use() -> Any:
        host: Any
        with pool.fresh() as host:
            assert host is not shared
            host.lost = "killed by the probe"
            if error is not None:
                raise error
            return host

    if error is None:
        assert use() is not use()
    else:
        with pytest.raises(error):
            use()
    assert open_hosts() == [shared]
    assert pool.lost == [], "a fresh host may be lost"


def test_logs_are_those_of_the_first_boot_and_of_every_host(pool: HostPool) -> None:
    with pool.fresh() as fresh:
        pass
    shared = pool.shared_host()
    logs = pool.kernel_logs().splitlines()
    assert logs == ["log of host-1", *(f"log of {host.folder.name}" for host in (fresh, shared))]
    pool.close()
    assert pool.kernel_logs().splitlines() == logs


def test_host_with_another_command_line_is_booted_once_and_shared(pool: HostPool, hosts: EmulatedHosts) -> None:
    other: Any = pool.shared_with_cmdline("kvm_amd.npt=0")
    assert pool.shared_with_cmdline("kvm_amd.npt=0") is other
    assert pool.shared_with_cmdline("quiet") is not other
    assert other.spec.command_line == f"{hosts.spec.command_line} kvm_amd.npt=0"
    assert other.state is None, "what is saved has the command line of all"
    assert f"log of {other.folder.name}" in pool.kernel_logs()
    other.lost = "panic"  # type: ignore[misc]
    another = pool.shared_with_cmdline("kvm_amd.npt=0")
    assert another is not other
    assert pool.lost == ["panic"]
    pool.close()
    assert open_hosts() == []
    assert other.closed == another.closed == 1


def test_host_with_another_command_line_that_does_not_boot_is_ended(
    pool: HostPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FakeHost) -> None:
        raise MachineLostError("again")

    monkeypatch.setattr(FakeHost, "booted", staticmethod(fail))
    with pytest.raises(MachineLostError):
        pool.shared_with_cmdline("quiet")
    assert open_hosts() == []


def test_pool_ends_its_host_once(pool: HostPool) -> None:
    shared = pool.shared_host()
    pool.close()
    pool.close()
    assert shared.closed == 1
    assert open_hosts() == []


def test_host_that_cannot_be_replaced_is_listed_and_gone(pool: HostPool, monkeypatch: pytest.MonkeyPatch) -> None:
    first: Any = pool.shared_host()
    first.lost = "panic"

    def fail(_: FakeHost) -> None:
        raise MachineLostError("again")

    monkeypatch.setattr(FakeHost, "restored", staticmethod(fail))
    monkeypatch.setattr(FakeHost, "booted", staticmethod(fail))
    with pytest.raises(MachineLostError):
        pool.shared_host()
    assert pool.lost == ["panic"]
    pool.close()
    assert first.closed == 1


# --- what a probe harmed


def test_host_whose_kernel_died_is_told_once_also_when_it_has_ended(pool: HostPool) -> None:
    shared = pool.shared_host()
    with pytest.raises(MachineLostError), pool.fresh() as fresh:
        fresh.vitals.note_loss("kernel died: Oops", harm=True)
        fresh.vitals.check()
    shared.vitals.note_loss("stalled: no heartbeat for 20 s", harm=True)
    lines = ["the host: kernel died: Oops", "the host: stalled: no heartbeat for 20 s"]
    assert pool.inquest(thorough=False) == lines
    assert pool.inquest(thorough=True) == []
    assert pool.harm == lines


def test_host_that_dies_unseen_by_its_probe_is_told_too(pool: HostPool) -> None:
    with pool.fresh() as fresh:
        fresh.vitals.note_loss("kernel died: Oops", harm=True)
    assert pool.inquest(thorough=False) == ["the host: kernel died: Oops"]


def test_host_that_we_ended_or_that_is_meant_to_crash_came_to_no_harm(pool: HostPool) -> None:
    pool.shared_host().vitals.note_loss("it was ended by the run")
    with pool.fresh_with_cmdline("quiet", crashes=True) as crashing:
        crashing.vitals.note_loss("kernel died: sysrq", harm=True)
    assert pool.inquest(thorough=True) == pool.harm == []
