# SPDX-License-Identifier: GPL-2.0-or-later
"""How an attack is run and what is made of it: with a guest, a puppeteer and memory that are fakes, judged for real."""

from __future__ import annotations

import dataclasses
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from common.errors import ChannelError, HarmError, MachineError
from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.uapi import Method
from host_setup.channels.vitals import Vitals
from host_setup.hosts.canaries import Planted
from host_setup.hosts.guest_memory import Address
from host_setup.hosts.guest_spec import GuestSpec
from signoff.contract import Mode
from signoff.observation import After, Aim, Canary, Check, Observation, Page, State, where
from signoff.trial import Trial
from signoff.verdict import Status, judge
from tests.unit.signoff_samples import probe as probe_claim
from tests_e2e.support import attack as module
from tests_e2e.support import checks as checks_module
from tests_e2e.support.attack import CONTROL, PATTERN, UNDER_TEST, Aimed, Answer, Attack, Target
from tests_e2e.support.attack_module import attack_by_module
from tests_e2e.support.checks import checks, works

PAGE = 4096
KINDS = ("user", "kernel", "page-cache")


class World:
    """A host, its guest of six pages and the attacker's process, in one object; ``events`` tells what happened.

    :param protected: it opted in. :param pid: of its QEMU.
    """

    def __init__(self, *, protected: bool = False, pid: int = 77) -> None:
        self.events: list[str] = []
        self.pages: dict[int, tuple[Planted, bytes]] = {}
        self.seeds: list[bytes] = []
        self.held = self.moved = False
        self.guest, self.ssh, self.pid = self, None, pid
        self.plain_guest: World | None = None
        self.vitals = Vitals("a guest")
        self.protected = protected
        self.spec = GuestSpec(name="protected" if protected else "plain")
        self.kvm = "enabled: 1\nshared_pages: 3" if protected else ""
        self.host_id = "a host"

    # the pool, the host

    def shared_host(self) -> World:
        return self

    @contextmanager
    def fresh(self) -> Iterator[World]:
        self.events.append("a pristine host")
        yield self
        self.events.append("its end")

    @property
    def guests(self) -> tuple[World, ...]:
        return (self,) if self.plain_guest is None else (self, self.plain_guest)

    # the guest, its memory and its canaries

    @property
    def memory(self) -> World:
        return self

    @property
    def canaries(self) -> World:
        return self

    def plant(self, seed: bytes, *, again: bool = False) -> list[Planted]:  # noqa: ARG002
        self.events.append("plant")
        self.seeds.append(seed)
        for number, (which, kind) in enumerate((w, k) for w in (UNDER_TEST, CONTROL) for k in KINDS):
            at = PAGE * (number + 1) + (self.pid << 24)
            content = random.Random(seed + bytes([number])).randbytes(PAGE)
            state = {UNDER_TEST: "private", CONTROL: "shared"}[which] if self.protected else "plain"
            where = Address(at, at + (1 << 40), at + (1 << 32))
            self.pages[at] = Planted(kind, which, state, where, content), content
        return [planted for planted, _ in self.pages.values()]

    def read(self, planted: list[Planted]) -> list[bytes]:
        assert not self.held, "a guest that is held answers nothing"
        for canary in planted:
            self.events.append(f"read {canary.set} {canary.kind}")
            if self.moved and canary.kind == "kernel":
                raise MachineError("the guest moved its kernel canary, so the probes aimed at another page")
        return [self.pages[canary.address.gpa][1] for canary in planted]

    def kernel_view_of(self, hvas: list[int]) -> tuple[list[str], str]:
        assert self.events[-1] == "plant", "mappings change with what is shared"
        lines = [f"{hva:x}-{hva + PAGE:x} rw-p; a line that holds {hva:#x}; VmFlags: rd wr" for hva in hvas]
        return [f"/proc/{self.pid}/smaps: {line}" for line in lines], self.kvm

    def checks(self, *argv: str, cpu: int | None = None, seconds: float) -> list[dict[str, Any]]:
        assert seconds > 0
        self.events.append(" ".join(argv) if cpu is None else f"{argv} on {cpu}")
        return [{"name": "a", "expected": 1, "got": True}, {"name": "b", "expected": ["x"], "got": "x"}]

    # the puppeteer

    def spawn(self) -> Puppet:
        self.events.append("spawn")
        return cast("Puppet", "a process")

    @contextmanager
    def inside(self, pid: int) -> Iterator[Puppet]:
        guest = self if pid == self.pid else self.plain_guest
        assert guest is not None
        assert guest.pid == pid
        guest.events.append(f"hold {pid}")
        guest.held = True
        try:
            yield cast("Puppet", "QEMU" if guest is self else "the other QEMU")
        finally:
            guest.held = False
            guest.events.append("let go")

    def close(self) -> None:
        self.events.append("puppeteer ends")

    # the attacker's memory

    def load(self, page: Target) -> bytes:
        guest = self if page.qemu == self.pid else self.plain_guest
        assert guest is not None
        return guest.pages[page.hva - (1 << 40)][1]

    def store(self, page: Target, data: bytes) -> None:
        at = page.hva - (1 << 40)
        self.pages[at] = self.pages[at][0], data


class FakeTrial:
    """Keeps what it is to judge."""

    def __init__(self) -> None:
        self.subject: list[Observation] = []
        self.control: list[Observation] = []
        self.judged = 0
        self.claim = probe_claim()

    def aim(
        self, canary: Canary, page: Page, state: State, *, host: str, guest: str, addresses: tuple[int, int, int],
        mapping: tuple[int, int],
    ) -> Aim:  # fmt: skip
        aim = Aim("a run", host, guest, *addresses, mapping, time.time(), "")
        return dataclasses.replace(aim, commitment=canary.commitment(*where(page, state, aim)))

    def attack(self, *, subject: list[Observation], control: list[Observation]) -> None:
        self.subject, self.control = subject, control
        self.judged += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "Puppeteer", lambda _, path: world if path.endswith("/puppeteer") else None)
    return world


@pytest.fixture
def fake_trial(monkeypatch: pytest.MonkeyPatch) -> FakeTrial:
    trial = FakeTrial()
    monkeypatch.setattr(Trial, "current", trial)
    return trial


@pytest.fixture
def attack(world: World, fake_trial: FakeTrial) -> Attack:
    return Attack(world, fake_trial)  # it is its own pool


def reads_all(world: World) -> Callable[[Puppet, Target], Answer]:
    return lambda _, page: Answer(Done(returned=PAGE), world.load(page))


def test_probe_runs_on_all_six_pages_and_each_is_told_by_its_own_canary(
    attack: Attack, world: World, fake_trial: FakeTrial
) -> None:
    targets: list[Target] = []

    def probe(attacker: Puppet, page: Target) -> Answer:
        assert attacker == "a process"
        targets.append(page)
        return Answer(Done(returned=PAGE), world.load(page))

    attack.by_a_process("process_vm_readv", probe)
    assert len(set(targets)) == 6
    assert {target.qemu for target in targets} == {77}
    for observations, which in ((fake_trial.subject, UNDER_TEST), (fake_trial.control, CONTROL)):
        assert [observation.page for observation in observations] == [Page.USER, Page.KERNEL, Page.CACHE]
        assert [observation.leaked for observation in observations] == [PAGE] * 3
        expected = {p.content for p, _ in world.pages.values() if p.set == which}
        assert {observation.data for observation in observations} == expected
    everything = [*fake_trial.subject, *fake_trial.control]
    assert len({observation.canary.fingerprint for observation in everything}) == 6
    assert {observation.call for observation in everything} == {"process_vm_readv"}
    assert {observation.state for observation in everything} == {State.PLAIN}
    assert world.events[-1] == "puppeteer ends"


def test_probe_runs_on_the_kinds_of_page_that_the_claim_names_and_no_others(
    attack: Attack, world: World, fake_trial: FakeTrial
) -> None:
    fake_trial.claim = probe_claim(pages=["kernel"])
    attack.by_qemu("c", reads_all(world))
    assert [observation.page for observation in (*fake_trial.subject, *fake_trial.control)] == [Page.KERNEL] * 2


def test_reach_tells_guest_physical_virtual_and_host_physical_and_the_mapping(
    attack: Attack, world: World, fake_trial: FakeTrial
) -> None:
    attack.by_a_process("c", reads_all(world))
    words = " ".join(fake_trial.subject[0].reach)
    for phrase in (
        "0x4d001000,",
        "0x1004d001000",
        "0x14d001000",
        "pid 77",
        "a line that holds 0x1004d001000",
        "VmFlags",
    ):
        assert phrase in words
    assert "KVM" not in words


def test_all_probes_run_while_qemu_is_held_and_the_guest_is_asked_afterwards(attack: Attack, world: World) -> None:
    def probe(attacker: Puppet, _: Target) -> Answer:
        assert (attacker, world.held) == ("QEMU", True)
        world.events.append("probe")
        return Answer(Done(signal="SIGBUS"))

    attack.by_qemu("rep movsb", probe)
    assert world.events[:2] == ["plant", "hold 77"]
    assert world.events[2:9] == ["probe"] * 6 + ["let go"]
    assert all(event.startswith("read ") for event in world.events[9:15])
    assert world.events[15:] == ["puppeteer ends"]


def test_canaries_are_fresh_for_each_attack(attack: Attack, world: World) -> None:
    for _ in range(2):
        attack.by_a_process("c", reads_all(world))
    assert len(set(world.seeds)) == 2
    assert all(32 <= len(seed) <= 512 for seed in world.seeds)


def test_page_that_moved_is_a_fault_and_never_judged(attack: Attack, world: World, fake_trial: FakeTrial) -> None:
    world.moved = True
    with pytest.raises(MachineError, match="moved its kernel canary"):
        attack.by_a_process("c", lambda *_: Answer(Done(returned=-1, errno="EFAULT")))
    assert fake_trial.judged == 0
    assert world.events[-1] == "puppeteer ends"


@pytest.mark.parametrize("by", [Attack.by_a_process, Attack.by_qemu])
def test_probe_that_fails_in_a_step_of_its_own_is_never_judged_and_lets_all_go(
    attack: Attack, world: World, fake_trial: FakeTrial, by: Callable[..., None]
) -> None:
    def probe(*_: object) -> Answer:
        raise ChannelError("open /proc/77/mem: ENOENT")

    with pytest.raises(ChannelError):
        by(attack, "c", probe)
    assert fake_trial.judged == 0
    assert not world.held
    assert world.events[-1] == "puppeteer ends"


def test_probe_whose_step_fails_in_the_guest_under_test_alone_is_a_fault_of_the_kernel(
    pair: World, fake_trial: FakeTrial
) -> None:
    """What the kernel allows a plain guest's QEMU it must allow a protected one's, or say why in the contract."""

    def probe(_: Puppet, page: Target) -> Answer:
        if page.qemu == pair.pid:
            raise ChannelError("userfaultfd: EFAULT")
        return Answer(Done(returned=PAGE))

    with pytest.raises(HarmError, match="fails with a guest: userfaultfd: EFAULT"):
        Attack(pair, fake_trial).by_qemu("c", probe)
    assert fake_trial.judged == 0


@pytest.mark.parametrize("blamed", [True, False])
def test_lethal_probe_whose_step_fails_on_the_private_page_alone_is_a_fault_of_the_kernel(
    pair: World,
    fake_trial: FakeTrial,
    blamed: bool,  # noqa: FBT001
) -> None:
    def probe(_: World, guest: World, page: Target) -> Answer:
        if not blamed or guest.pages[page.gpa][0].state == "private":
            raise ChannelError("QEMU ended by SIGABRT")
        return Answer(Done(returned=PAGE))

    with pytest.raises(HarmError if blamed else ChannelError, match="SIGABRT"):
        Attack(pair, fake_trial).lethal("c", probe)
    assert fake_trial.judged == 0


def write_all(world: World, data: bytes, wrote: bytes | None) -> Callable[[Puppet, Target], Answer]:
    def probe(_: Puppet, page: Target) -> Answer:
        world.store(page, data)
        return Answer(Done(returned=PAGE), wrote=wrote)

    return probe


@pytest.mark.parametrize(
    ("written", "writes", "after"),
    [
        (PATTERN, PATTERN, After.OVERWRITTEN),
        (PATTERN[:-1] + b"?", PATTERN, After.CHANGED),
        (bytes(PAGE), PATTERN, After.CHANGED),
        (b"?" * PAGE, None, After.CHANGED),  # a probe that only reads, and harms all the same
    ],
)
def test_what_the_guest_finds_afterwards(
    attack: Attack, world: World, fake_trial: FakeTrial, written: bytes, writes: bytes | None, after: After
) -> None:
    attack.by_a_process("c", write_all(world, written, writes))
    assert {observation.page_after for observation in [*fake_trial.subject, *fake_trial.control]} == {after}


@pytest.mark.parametrize(("writes", "after"), [(PATTERN, After.INTACT), (None, None)])
def test_page_that_is_as_before(
    attack: Attack, fake_trial: FakeTrial, writes: bytes | None, after: After | None
) -> None:
    attack.by_a_process("c", lambda *_: Answer(Done(returned=-1, errno="EFAULT"), wrote=writes))
    assert {observation.page_after for observation in fake_trial.subject} == {after}


def test_private_pages_are_the_subject_and_the_others_the_control(
    attack: Attack, world: World, fake_trial: FakeTrial
) -> None:
    def probe(_: Puppet, page: Target) -> Answer:
        planted, content = world.pages[page.hva - (1 << 40)]
        if planted.set == UNDER_TEST:
            return Answer(Done(returned=-1, errno="EFAULT"))
        return Answer(Done(returned=PAGE), content)

    attack.by_a_process("c", probe)
    assert {(observation.ending.errno, observation.leaked) for observation in fake_trial.subject} == {("EFAULT", 0)}
    assert {(observation.ending.errno, observation.leaked) for observation in fake_trial.control} == {(None, PAGE)}


def test_guest_is_not_asked_for_a_page_that_is_gone(attack: Attack, world: World, fake_trial: FakeTrial) -> None:
    attack.by_qemu("madvise(MADV_DONTNEED)", lambda *_: Answer(Done(returned=0), freed=True))
    assert not [event for event in world.events if event.startswith("read ")]
    assert {observation.page_after for observation in fake_trial.subject} == {None}


def test_all_pages_of_a_pristine_host_are_attacked_at_once(attack: Attack, world: World, fake_trial: FakeTrial) -> None:
    def probe(host: World, pages: list[Aimed]) -> list[Answer]:
        assert host is world
        world.events.append("probe")
        return [Answer(Done(returned=0), page.planted.content) for page in pages]

    attack.all_at_once("quit", probe)
    assert world.events[:3] == ["a pristine host", "plant", "probe"]
    assert world.events[-1] == "its end"
    assert [observation.leaked for observation in [*fake_trial.subject, *fake_trial.control]] == [PAGE] * 6


def test_all_facts_of_a_signal_come_along(attack: Attack, fake_trial: FakeTrial) -> None:
    done = Done(signal="SIGBUS", si_code="BUS_ADRERR", si_addr=0x7000)
    attack.by_qemu("rep movsb", lambda *_: Answer(done, b""))
    assert fake_trial.subject[0].ending == done


def test_pattern_is_no_canary_and_no_page_of_zeros() -> None:
    assert len(PATTERN) == PAGE
    assert len(set(PATTERN)) == 256


# --- and judged for real, in a guest without protection


def judge_with(fake_trial: FakeTrial) -> Status:
    return judge(probe_claim(), Mode.PLAIN, fake_trial.subject, fake_trial.control).status


def test_plain_pages_that_are_read_are_as_the_contract_says(
    attack: Attack, world: World, fake_trial: FakeTrial
) -> None:
    attack.by_a_process("c", reads_all(world))
    assert judge_with(fake_trial) is Status.PASS


@pytest.mark.parametrize("spoilt", KINDS)
@pytest.mark.parametrize("how", ["nothing", "zeros", "of another page"])
def test_one_page_that_was_not_read_is_no_pass(
    attack: Attack, world: World, fake_trial: FakeTrial, spoilt: str, how: str
) -> None:
    def probe(_: Puppet, page: Target) -> Answer:
        planted, content = world.pages[page.hva - (1 << 40)]
        if (planted.set, planted.kind) != (UNDER_TEST, spoilt):
            return Answer(Done(returned=PAGE), content)
        contents = [content for _, content in world.pages.values()]
        data = {"nothing": b"", "zeros": bytes(PAGE), "of another page": contents[-1]}[how]
        if planted.kind == "page-cache" and how == "of another page":
            data = contents[0]
        return Answer(Done(returned=PAGE), data)

    attack.by_a_process("c", probe)
    assert judge_with(fake_trial) is not Status.PASS


# --- and in a protected guest with a plain one beside it


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(protected=True)
    world.plain_guest = World(pid=78)
    monkeypatch.setattr(module, "Puppeteer", lambda *_: world)
    return world


def keeps(world: World) -> Callable[[Puppet, Target], Answer]:
    """A probe that works, on a host that protects."""

    def probe(_: Puppet, page: Target) -> Answer:
        guest = world if page.qemu == world.pid else world.plain_guest
        assert guest is not None
        planted, content = guest.pages[page.hva - (1 << 40)]
        if planted.state == "private":
            return Answer(Done(returned=-1, errno="EFAULT"))
        return Answer(Done(returned=PAGE), content)

    return probe


def states(observations: list[Observation]) -> list[tuple[State, Page]]:
    return [(observation.state, observation.page) for observation in observations]


@pytest.mark.parametrize("by", [Attack.by_a_process, Attack.by_qemu])
def test_private_pages_are_held_against_shared_ones_and_those_of_the_plain_guest(
    pair: World, fake_trial: FakeTrial, by: Callable[..., None]
) -> None:
    by(Attack(pair, fake_trial), "c", keeps(pair))
    assert states(fake_trial.subject) == [(State.PRIVATE, page) for page in Page]
    assert states(fake_trial.control) == [(state, page) for state in (State.SHARED, State.PLAIN) for page in Page]
    verdict = judge(probe_claim(), Mode.PROTECTED, fake_trial.subject, fake_trial.control)
    assert verdict.status is Status.PASS
    assert verdict.control == verdict.shared == "returned 4096, the whole page leaked"


def test_each_qemu_attacks_its_own_guest(pair: World, fake_trial: FakeTrial) -> None:
    met: list[tuple[str, int]] = []

    def probe(attacker: Puppet, page: Target) -> Answer:
        met.append((str(attacker), page.qemu))
        return Answer(Done(returned=0), pair.load(page))

    Attack(pair, fake_trial).by_qemu("rep movsb", probe)
    assert met == [("QEMU", 77)] * 6 + [("the other QEMU", 78)] * 3


def test_reach_tells_which_guest_and_what_kvm_says_of_it(pair: World, fake_trial: FakeTrial) -> None:
    Attack(pair, fake_trial).by_a_process("c", keeps(pair))
    assert all("guest protected holds" in observation.reach[0] for observation in fake_trial.subject)
    assert all(observation.reach[-1].endswith(": enabled: 1 shared_pages: 3") for observation in fake_trial.subject)
    assert {observation.reach[0].split()[1] for observation in fake_trial.control} == {"protected", "plain"}


@pytest.mark.parametrize(("met", "status"), [("a fault at the page", Status.PASS), ("", Status.MISS)])
def test_probe_that_must_show_that_it_met_the_page_proves_nothing_if_it_does_not(
    pair: World, fake_trial: FakeTrial, met: str, status: Status
) -> None:
    kept_out = keeps(pair)

    def probe(who: Puppet, page: Target) -> Answer:
        answer = kept_out(who, page)
        return replace(answer, met="bytes of the page came" if answer.data else met)

    Attack(pair, fake_trial).by_a_process("c", probe)
    assert all(met in observation.reach if met else not observation.reach for observation in fake_trial.subject)
    assert judge(probe_claim(), Mode.PROTECTED, fake_trial.subject, fake_trial.control).status is status


@pytest.mark.parametrize(("met", "status"), [("leak", Status.FAIL), ("EFAULT", Status.MISS)])
def test_guest_that_did_not_opt_in_is_never_a_pass(
    pair: World,
    fake_trial: FakeTrial,
    met: str,
    status: Status,
) -> None:
    pair.protected = False

    def probe(_: Puppet, page: Target) -> Answer:
        if page.qemu == 77 and met != "leak":
            return Answer(Done(returned=-1, errno=met))
        return Answer(Done(returned=PAGE), pair.load(page))

    Attack(pair, fake_trial).by_a_process("c", probe)
    assert {observation.state for observation in fake_trial.subject} == {State.PLAIN}
    assert judge(probe_claim(), Mode.PROTECTED, fake_trial.subject, fake_trial.control).status is status


def test_without_the_plain_guest_a_refusal_is_no_pass(pair: World, fake_trial: FakeTrial) -> None:
    pair.plain_guest = None
    Attack(pair, fake_trial).by_a_process("c", keeps(pair))
    verdict = judge(probe_claim(), Mode.PROTECTED, fake_trial.subject, fake_trial.control)
    assert (verdict.status, verdict.why) == (Status.MISS, "control: it did not run on a plain page")


# --- the attack module


class ModulePuppet:
    """A puppet on whose ioctl the module answers with this result and so many bytes."""

    def __init__(self, result: int, count: int, *, ioctl: Done | None = None) -> None:
        self.answer, self.ioctl = (result, count), ioctl or Done(returned=0)
        self.blocks: dict[int, bytes] = {}
        self.called: list[tuple[str, tuple[int, ...]]] = []

    def open(self, path: str, flags: int) -> int:
        assert (path, flags) == ("/dev/sealproof-attack", 2)
        return 5

    def memory(self, content: bytes | int) -> int:
        at = 0x1000 * (len(self.blocks) + 1)
        self.blocks[at] = content if isinstance(content, bytes) else bytes(content)
        return at

    def syscall(self, name: str, *args: int) -> Done:
        self.called.append((name, args))
        if name == "ioctl":
            method, flags, target, length, buffer, _, _ = struct.unpack("<IIQQQqQ", self.blocks[args[2]])
            assert (method, flags, target, length) == (Method.COPY_FROM_USER, 0, 0x7000, PAGE)
            self.blocks[buffer] = b"!" * self.answer[1] + bytes(PAGE - self.answer[1])
            self.blocks[args[2]] = struct.pack("<IIQQQqQ", method, flags, target, length, buffer, *self.answer)
            return self.ioctl
        return Done(returned=0)

    def read(self, address: int, size: int) -> bytes:
        return self.blocks[address][:size]


@pytest.mark.parametrize(
    ("result", "count", "done"),
    [
        (0, PAGE, Done(returned=0)),
        (-14, 0, Done(returned=-1, errno="EFAULT")),
        (-14, 8, Done(returned=-1, errno="EFAULT")),  # refused in the middle: what it got until then counts
        (-133, 0, Done(returned=-1, errno="EHWPOISON")),
        (-512, 0, Done(returned=-1, errno="512")),  # ERESTARTSYS: the kernel's own, and no refusal that a contract has
    ],
)
def test_module_tells_what_the_access_met(result: int, count: int, done: Done) -> None:
    puppet = ModulePuppet(result, count)
    answer = attack_by_module(puppet, Method.COPY_FROM_USER, 0x7000, PAGE)
    assert answer == (done, b"!" * count)
    assert [name for name, _ in puppet.called] == ["ioctl", "close"]
    assert puppet.called[0][1][:2] == (5, 0xC0305310)


def test_module_that_refuses_the_request_itself_blocked_nothing() -> None:
    puppet = ModulePuppet(0, 0, ioctl=Done(returned=-1, errno="ENOTTY"))
    with pytest.raises(ChannelError, match="ENOTTY"):
        attack_by_module(puppet, Method.COPY_FROM_USER, 0x7000, PAGE)


# --- checks


class WorksTrial:
    def __init__(self) -> None:
        self.given: list[Any] = []

    def legitimate(self, *args: Any, **kwargs: Any) -> None:
        self.given.append((args, kwargs))


def test_path_that_must_work_is_checked_and_watched_in_both_guests(
    world: World, pair: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(host: World, guest: World, look: Callable[[World], list[Check]]) -> list[Check]:
        return [*look(guest), Check("watched", "True", str(guest in (host.guest, host.plain_guest)))]

    monkeypatch.setattr(checks_module, "look_and_watch", watch)
    trial = WorksTrial()
    works(trial, world, lambda guest: [Check("pid", "1", str(guest.pid))])
    works(trial, pair, lambda guest: [Check("pid", str(guest.pid), str(guest.pid))])
    (alone, _), (beside, words) = trial.given
    assert [[check.got for check in part] for part in alone] == [["77", "True"]]
    assert [[check.got for check in part] for part in beside] == [["77", "True"], ["78", "True"]]
    assert words == {"protected": True}


def test_checks_are_compared_as_text(world: World) -> None:
    results = checks(world, "check_clock", "kvm-clock")
    assert results == [Check("a", "1", "true"), Check("b", "['x']", "x")]
    assert world.events == ["check_clock kvm-clock"]
    assert not any(check.right for check in results)
