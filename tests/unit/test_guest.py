# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest as its host's session, its QEMU's QMP and its canary program tell of it; these are fakes here."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from common.errors import AccessError, ChannelError, DeadlineError, HarmError, MachineError, MachineLostError
from common.paths import PROJECT
from host_setup.channels.ssh import Login
from host_setup.channels.vitals import Vitals
from host_setup.hosts import guest as module
from host_setup.hosts.canaries import Planted, canary_of
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import Address
from host_setup.hosts.guest_spec import PLAIN, PROTECTED, GuestSpec, guests_for
from host_setup.kernel.series import Protection
from tests.unit.machine_samples import FakeSsh

LOGIN = Login("root", Path("/key"), "ssh-ed25519 AAAA")


class FakeQmp:
    """The human monitor: a page at guest-physical N is at 0x7f0000000000 + N."""

    def __init__(self) -> None:
        self.closed = 0

    def monitor(self, line: str) -> str:
        command, gpa = line.split()
        assert command == "gpa2hva"
        at = int(gpa, 16)
        if at >= 0xC000000:
            return f"No memory is mapped at address {gpa}"
        return f"Host virtual address for {gpa} (pc.ram) is {0x7F0000000000 + at:#x}"

    def close(self) -> None:
        self.closed += 1


class FakeCanary:
    def __init__(self, reply: dict[str, Any]) -> None:
        self.reply = reply
        self.asked: list[str] = []
        self.closed = 0

    def ask(self, *requests: str, seconds: float) -> list[str]:
        assert seconds > 0
        self.asked += requests
        return [json.dumps(self.reply)] * len(requests)

    def close(self) -> None:
        self.closed += 1


def no_stream(_: float) -> Any:
    raise ConnectionRefusedError("nobody there")


@pytest.fixture
def host() -> FakeSsh:
    return FakeSsh(cat="77\n", tail="last words\n")


@pytest.fixture
def guest(host: FakeSsh, monkeypatch: pytest.MonkeyPatch) -> Guest:
    return guest_of(host, monkeypatch, GuestSpec())


def guest_of(host: FakeSsh, monkeypatch: pytest.MonkeyPatch, spec: GuestSpec) -> Guest:
    guest = Guest(spec, lambda: cast("Any", host), LOGIN, Vitals("the guest"), no_stream)
    monkeypatch.setattr(guest, "_qmp", FakeQmp())
    return guest


def canary_at(gpa: int = 0x3000) -> Planted:
    return Planted("user", "subject", "plain", Address(gpa, 0, 0), b"secret" * 8)


def canary(guest: Guest, monkeypatch: pytest.MonkeyPatch, **reply: Any) -> FakeCanary:
    canary = FakeCanary(reply)
    monkeypatch.setattr(guest._canary, "_conversation", canary)
    return canary


def info(guest: Guest, monkeypatch: pytest.MonkeyPatch, **reply: Any) -> FakeCanary:
    """What ``page_info`` says."""
    canary = FakeCanary(reply)
    monkeypatch.setattr(guest._page_info, "_conversation", canary)
    return canary


def test_pages_lie_where_qemu_and_its_page_tables_say(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = info(guest, monkeypatch, entries=[0x81 << 56 | 0x100003, 1 << 63 | 0x7])
    assert guest.memory.addresses([0x3000, 0x5008]) == [
        Address(0x3000, 0x7F0000003000, 0x100003000),
        Address(0x5008, 0x7F0000005008, 0x7008),
    ]
    assert talk.asked == ["pagemap 0x7f0000003000 0x7f0000005008"]


def test_qemu_is_asked_once_where_a_page_is_and_the_host_each_time(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = info(guest, monkeypatch, entries=[1 << 63 | 0x7])
    (before,) = guest.memory.addresses([0x3008])
    monkeypatch.setattr(guest, "_qmp", None)
    talk.reply = {"entries": [1 << 63 | 0x9]}
    assert (before.hva, before.hpa) == (0x7F0000003008, 0x7008)
    assert guest.memory.addresses([0x3010]) == [Address(0x3010, 0x7F0000003010, 0x9010)]


def test_page_that_qemu_does_not_know_has_no_address(guest: Guest) -> None:
    with pytest.raises(MachineError, match="No memory is mapped at address 0xc000000"):
        guest.memory.addresses([0xC000000])


@pytest.mark.parametrize("entry", [0, 0x100003, 1 << 63, 1 << 62 | 0x100003])
def test_page_that_is_not_in_memory_has_no_address(guest: Guest, monkeypatch: pytest.MonkeyPatch, entry: int) -> None:
    info(guest, monkeypatch, entries=[entry])
    with pytest.raises(MachineError, match="guest-physical 0x3000 is not in the host's memory"):
        guest.memory.addresses([0x3000])


def test_page_map_that_cannot_be_read_is_an_error(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    info(guest, monkeypatch, error="pagemap", errno="ESRCH")
    with pytest.raises(MachineError, match="page_info of guest plain, 'pagemap': pagemap: ESRCH"):
        guest.memory.addresses([0x3000])


def test_mapping_comes_with_its_flags_and_must_be_there(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ["7f0000000000-7f000c000000 rw-p", "VmFlags: rd wr kp"]
    talk = info(guest, monkeypatch, mappings=[here], protection="enabled: 1\n")
    assert guest.memory.kernel_view_of([0x7F0000000000]) == ([f"/proc/77/smaps: {here[0]}; {here[1]}"], "enabled: 1\n")
    assert talk.asked == ["mappings 0x7f0000000000", "protection"]
    info(guest, monkeypatch, mappings=[here, ["", ""]])
    with pytest.raises(MachineError, match="no mapping of /proc/77/smaps holds 0x7f000c002000"):
        guest.memory.kernel_view_of([0x7F0000000000, 0x7F000C002000])


def test_mappings_with_a_flag_are_told_by_their_ends(guest: Guest, host: FakeSsh) -> None:
    host.texts["grep"] = "1000-3000 rw-p\nVmFlags: rd wr kp\n3000-4000 ---p\n4000-5000 rw-p\nVmFlags: rd\n"
    assert guest.memory.mappings_with_flag("kp") == [(0x1000, 0x3000)]


def test_kvms_word_is_asked_for_anew_each_time(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = info(guest, monkeypatch, protection="enabled: 1\n")
    assert [guest.memory.protection(), guest.memory.protection()] == ["enabled: 1\n"] * 2
    assert talk.asked == ["protection"] * 2


def test_planted_canaries_come_with_their_addresses_and_hide_their_bytes(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    info(guest, monkeypatch, entries=[1 << 63 | 0x100003])
    reply = {"kind": "user", "set": "subject", "state": "private", "gpa": 0x3000, "key": "c0ffee00" * 8}
    talk = canary(guest, monkeypatch, canaries=[reply])
    (result,) = guest.canaries.plant(b"\x01\x02")
    assert talk.asked == ["plant 0102"]
    content = canary_of(bytes.fromhex("c0ffee00" * 8))
    assert len(content) == len(set(zip(*[iter(content)] * 8, strict=True))) * 8 == 4096
    assert result == Planted("user", "subject", "private", Address(0x3000, 0x7F0000003000, 0x100003000), content)
    assert "content" not in repr(result)
    assert "ffee" not in repr(result)


def test_page_is_read_where_it_was_planted(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [[0, "c0ff"], [47, "ee"]]
    talk = canary(guest, monkeypatch, state="plain", gpa=0x3000, planted_gpa=0x3000, moved=False, changed=changed)
    assert guest.canaries.read([canary_at(), canary_at()]) == [b"\xc0\xffcret" + b"secret" * 6 + b"secre\xee"] * 2
    assert talk.asked == ["read user subject"] * 2


@pytest.mark.parametrize("reply", [{"gpa": 0x4000, "moved": True}, {"gpa": 0x4000, "moved": False}])
def test_page_that_moved_is_a_fault_and_no_answer(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, reply: dict[str, Any]
) -> None:
    canary(guest, monkeypatch, **reply, state="plain", changed=[])
    with pytest.raises(MachineError, match="moved its user canary"):
        guest.canaries.read([canary_at()])


def test_page_that_is_no_longer_as_shared_as_it_was_is_a_fault(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(guest, monkeypatch, state="shared", gpa=0x3000, moved=False, changed=[])
    with pytest.raises(MachineError, match="user page was plain, and is shared now"):
        guest.canaries.read([canary_at()])


def test_page_that_cannot_be_shared_is_a_fault_with_its_errno(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(guest, monkeypatch, error="share the user page", errno="EOPNOTSUPP", errno_nr=95)
    with pytest.raises(MachineError, match="'plant': share the user page: EOPNOTSUPP"):
        guest.canaries.plant(b"\xab" * 32)


@pytest.mark.parametrize(("opts_in", "harm"), [(True, True), (False, False)])
def test_request_that_the_host_refuses_is_its_doing_and_no_fault_of_ours(
    host: FakeSsh,
    monkeypatch: pytest.MonkeyPatch,
    opts_in: bool,  # noqa: FBT001
    harm: bool,  # noqa: FBT001
) -> None:
    guest = guest_of(host, monkeypatch, GuestSpec(opts_in=opts_in))
    canary(guest, monkeypatch, error="make private the user page", errno="EBUSY", errno_nr=16)
    with pytest.raises(MachineError, match="make private the user page: EBUSY") as caught:
        guest.canaries.take_back(canary_at())
    assert isinstance(caught.value, HarmError) is harm


def test_late_answer_is_never_taken_for_the_next_one(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = canary(guest, monkeypatch)

    def late(*_: str, seconds: float) -> list[str]:
        raise DeadlineError(f"waited {seconds:g} s")

    monkeypatch.setattr(talk, "ask", late)
    with pytest.raises(DeadlineError):
        guest.canaries.read([canary_at()])
    assert talk.closed == 1
    another = FakeCanary({"protected": True})
    monkeypatch.setattr(guest, "_ssh", FakeSsh())
    monkeypatch.setattr(guest.ssh, "converse", lambda *_, **__: another, raising=False)
    assert guest.protected


@pytest.mark.parametrize("protected", [True, False])
def test_guest_tells_once_whether_it_opted_in(
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
    protected: bool,  # noqa: FBT001
) -> None:
    talk = canary(guest, monkeypatch, protected=protected)
    assert [guest.protected, guest.protected] == [protected] * 2
    assert talk.asked == ["protected"]


def test_canary_that_cannot_is_a_fault_that_hides_the_seed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(guest, monkeypatch, error="no /dev/sealproof-canary")
    with pytest.raises(MachineError, match="'plant': no /dev/sealproof-canary") as caught:
        guest.canaries.plant(b"\xab" * 32)
    assert "abab" not in str(caught.value)


def test_checks_are_one_a_line(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"name": "a", "expected": 1, "got": 1}, {"name": "b", "expected": "x", "got": ["SIGILL"]}]
    inner = FakeSsh(check_clock="\n".join(map(json.dumps, lines)) + "\n")
    monkeypatch.setattr(guest, "_ssh", inner)
    assert guest.checks("check_clock", "kvm-clock") == lines
    assert inner.ran == ["/sealproof/check_clock kvm-clock"]


# --- its SSH


@pytest.mark.parametrize("words", ["last words", None])
def test_guest_that_does_not_answer_is_explained_by_its_console(guest: Guest, host: FakeSsh, words: str | None) -> None:
    if words is None:
        host.texts = {"tail": DeadlineError("waited 5 s for 'tail'")}  # the host is stuck, too
    with pytest.raises(DeadlineError, match="SSH of guest plain") as caught:
        guest.connect(seconds=0.05)
    assert "nobody there" in caught.value.message
    assert (words or "no console") in caught.value.message


def test_guest_that_is_not_up_yet_is_tried_again(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Exception] = [ChannelError("no banner"), ConnectionResetError("reset")]

    def connect(*_: Any) -> str:
        if tries:
            raise tries.pop(0)
        return "session"

    monkeypatch.setattr(guest, "_stream", lambda _: None)
    monkeypatch.setattr(module, "Ssh", connect)
    assert guest.connect(seconds=60) == "session"


@pytest.mark.parametrize("error", [AccessError("wrong key"), MachineLostError("panic")])
def test_guest_that_refuses_or_is_lost_is_not_tried_again(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries: list[int] = []

    def connect(*_: Any) -> None:
        tries.append(1)
        raise error

    monkeypatch.setattr(guest, "_stream", lambda _: None)
    monkeypatch.setattr(module, "Ssh", connect)
    with pytest.raises(type(error)):
        guest.connect(seconds=60)
    assert tries == [1]


# --- its end


@pytest.mark.parametrize("expected", [True, False])
def test_end_of_its_qemu_is_its_loss_and_harm_unless_a_probe_wants_it(guest: Guest, expected: bool) -> None:  # noqa: FBT001
    if expected:
        guest.may_end()
    guest._qmp_ended()
    assert guest.vitals.reason == "its QEMU ended"
    assert guest.vitals.harm is not expected


def test_end_of_our_channels_is_not(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, qmp = canary(guest, monkeypatch), guest.qmp
    inner = FakeSsh()
    monkeypatch.setattr(guest, "_ssh", inner)
    guest.close()
    guest._qmp_ended()
    guest.close()
    assert guest.vitals.reason is None
    assert (talk.closed, qmp.closed, inner.closed) == (1, 1, 1)


# --- what it is started with


def test_guest_is_a_plain_qemu_on_kvm_whose_qmp_only_its_host_reaches() -> None:
    words = GuestSpec(name="one", ssh_port=2201, qmp_port=4401).argv()
    assert "pc,accel=kvm" in words
    assert "tcp:127.0.0.1:4401,server=on,wait=off" in words
    assert sum(":2201-:22" in word for word in words) == 1


def test_two_guests_share_no_file() -> None:
    first, second = GuestSpec(name="one"), GuestSpec(name="two")
    files = [
        {re.sub(r"^.*(/run/guest/[^,]*).*$", r"\1", word) for word in s.argv() if "/run/guest" in word}
        for s in (first, second)
    ]
    assert files[0]
    assert not files[0] & files[1]


def test_guests_of_one_host_differ_in_all_that_they_would_share() -> None:
    ports = [port for spec in (PLAIN, PROTECTED) for port in (spec.ssh_port, spec.qmp_port)]
    assert len(set(ports)) == 4
    assert PLAIN.name != PROTECTED.name
    assert min(PLAIN.memory, PROTECTED.memory - 16) >= 192


def test_only_a_guest_to_be_protected_opts_in_and_all_else_of_it_is_as_in_the_plain_one() -> None:
    plain, protected = (" ".join(replace(spec, name="n", ssh_port=1, qmp_port=2).argv()) for spec in (PLAIN, PROTECTED))
    assert "kvm_protected_mem=off" in plain
    assert protected.replace("mem=on swiotlb=8192", "mem=off").replace("-m 208", "-m 192") == plain
    virtio = [word for word in PLAIN.argv() if word.startswith("virtio")]
    assert len(virtio) == 3
    assert all(word.endswith(",iommu_platform=on,disable-legacy=on") for word in virtio)


@pytest.mark.parametrize("series", Protection)
@pytest.mark.parametrize("mode", Protection)
def test_plain_guest_is_there_always_and_another_only_where_it_can_be_protected(
    series: Protection, mode: Protection
) -> None:
    expected = (PROTECTED, PLAIN) if (series, mode) == (Protection.PROTECTED, Protection.PROTECTED) else (PLAIN,)
    assert guests_for(series=series, mode=mode) == expected


def test_host_listens_for_the_heartbeat_of_every_guest() -> None:
    inittab = (PROJECT / "guest_images" / "host" / "inittab").read_text()
    for spec in (PLAIN, PROTECTED):
        assert f" {spec.name}={spec.beat}" in inittab


def test_guest_whose_qemu_refuses_is_told(host: FakeSsh) -> None:
    host.texts = {"truncate": "", "qemu_system": ChannelError("'qemu-system-x86_64' ended with status 1: no KVM")}
    with pytest.raises(ChannelError, match="no KVM"):
        GuestSpec().start(host)
