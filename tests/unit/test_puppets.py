# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of ``puppeteer`` and how its answers are read; the program itself is tested in test_programs.py."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import ChannelError, MachineLostError
from host_setup.channels.puppets import Done, Puppet, Puppeteer

Reply = dict[str, Any]
REFUSED = {"ret": -1, "errno": "EFAULT", "errno_nr": 14}


class Talk:
    """A conversation that gives the replies that a test prepared, by the request's first word."""

    def __init__(self, **replies: Reply | list[Reply]) -> None:
        self.replies = replies
        self.asked: list[str] = []

    def ask(self, *requests: str, seconds: float) -> list[str]:
        assert seconds > 0
        self.asked += requests
        listing = []
        for request in requests:
            reply = self.replies[request.split()[0]]
            listing.append(json.dumps(reply.pop(0) if isinstance(reply, list) else reply))
        return listing

    def close(self) -> None:
        self.asked.append("(closed)")


def puppet(talk: Talk) -> Puppet:
    return Puppet(talk, 3, 1234)


class Session:
    """An SSH session on which the program is started."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk

    def converse(self, argv: list[str], *, seconds: float) -> Talk:
        assert (argv, seconds > 0) == (["/p/puppeteer"], True)
        return self.talk


def puppeteer(talk: Talk) -> Puppeteer:
    return Puppeteer(Session(talk), "/p/puppeteer")


@pytest.mark.parametrize(
    ("reply", "done"),
    [
        ({"ret": 4096, "errno": None, "errno_nr": 0}, Done(returned=4096)),
        ({"ret": 0, "errno": None}, Done(returned=0)),
        (REFUSED, Done(returned=-1, errno="EFAULT")),
        (
            {"signal": "SIGBUS", "si_code": "BUS_ADRERR", "si_addr": 4096},
            Done(signal="SIGBUS", si_code="BUS_ADRERR", si_addr=4096),
        ),
    ],
)
def test_system_call_ends_as_the_program_told(reply: Reply, done: Done) -> None:
    talk = Talk(syscall=reply)
    assert puppet(talk).syscall("process_vm_readv", 77, 0x7F0000001000, -1) == done
    assert talk.asked == ["syscall 3 310 0x4d 0x7f0000001000 0xffffffffffffffff"]


@pytest.mark.parametrize("reply", [{"ret": 0, "errno": None}, {"error": "stuck"}])
def test_long_system_call_has_its_time_and_the_next_one_the_usual(reply: Reply) -> None:
    talk = Talk(syscall=reply, timeout={"timeout": 1})
    with contextlib.suppress(ChannelError):
        puppet(talk).syscall("migrate_pages", 77, seconds=60)
    assert talk.asked == ["timeout 60000", "syscall 3 256 0x4d", "timeout 5000"]


@pytest.mark.parametrize(
    ("reply", "done"),
    [
        ({"trap": True, "code": 1, "rax": 7, "rip": 2}, Done(returned=7)),
        (
            {"trap": False, "rax": 7, "signal": "SIGSEGV", "si_code": "SEGV_ACCERR", "si_addr": 1},
            Done(signal="SIGSEGV", si_code="SEGV_ACCERR", si_addr=1),
        ),
    ],
)
def test_code_ends_as_the_program_told(reply: Reply, done: Done) -> None:
    talk = Talk(run=reply)
    assert puppet(talk).run(b"\xf3\xa4", rsi=16, rcx=4096) == done
    assert talk.asked == ["run 3 f3a4 RSI=0x10 RCX=0x1000"]
    assert done.as_a_load().returned is None
    assert done.as_a_load().signal == done.signal


@pytest.mark.parametrize(
    "trouble",
    [
        {"error": "deadline"},
        {"error": "stuck"},
        {"error": "attach", "errno": "EPERM", "errno_nr": 1},
        {"gone": True, "killed": "SIGKILL"},
        {"gone": True, "exited": 0},
    ],
)
@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.syscall("read", 0, 0, 0),
        lambda p: p.run(b"\x90"),
        lambda p: p.memory(8),
        lambda p: p.read(0, 8),
        lambda p: p.write(0, b"x"),
    ],
)
def test_work_that_could_not_be_done_is_no_refusal_by_the_kernel(
    trouble: Reply, act: Callable[[Puppet], object]
) -> None:
    talk = Talk(syscall=trouble, run=trouble, map=trouble, peek=trouble, poke=trouble)
    with pytest.raises(ChannelError, match="puppeteer"):
        act(puppet(talk))


def test_memory_is_mapped_and_filled() -> None:
    talk = Talk(map=[{"addr": 0x100000}, {"addr": 0x200000}], poke={"written": 3})
    answer = puppet(talk)
    assert [answer.memory(b"abc"), answer.memory(0), answer.memory(4097), answer.memory(1)] == [
        0x100000,
        0x101000,
        0x102000,
        0x104000,
    ]
    assert answer.memory(1 << 20) == 0x200000
    assert talk.asked == ["map 3 262144", "poke 3 0x100000 616263", "map 3 1048576"]


def test_memory_got_or_written_in_part_is_a_fault() -> None:
    with pytest.raises(ChannelError, match="EIO"):
        puppet(Talk(poke={"written": 2, "errno": "EIO"})).write(0x1000, b"abc")
    with pytest.raises(ChannelError, match="EIO"):
        puppet(Talk(peek={"hex": "6162", "errno": "EIO"})).read(0x1000, 3)
    assert puppet(Talk(peek={"hex": "616263"})).read(0x1000, 3) == b"abc"


def test_file_that_cannot_be_opened_is_a_fault() -> None:
    talk = Talk(map={"addr": 0x1000}, poke={"written": 10}, syscall={"ret": -1, "errno": "ENOENT"})
    with pytest.raises(ChannelError, match="open /dev/none: ENOENT"):
        puppet(talk).open("/dev/none")


def test_iovec_is_address_and_length() -> None:
    talk = Talk(map={"addr": 0x1000}, poke={"written": 16})
    puppet(talk).iovec(0x2000, 4096)
    assert talk.asked[1] == "poke 3 0x1000 00200000000000000010000000000000"


@pytest.mark.parametrize("fails", [False, True])
def test_traced_process_is_let_go_whatever_happens(*, fails: bool) -> None:
    talk = Talk(syscall={"ret": 0, "errno": None})

    def trace() -> None:
        with puppet(talk).tracing(77):
            if fails:
                raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            trace()
    else:
        trace()
    assert [request.split()[2:4] for request in talk.asked] == [
        ["101", "0x4206"],
        ["101", "0x4207"],
        ["61", "0x4d"],
        ["101", "0x11"],
    ]


def test_process_that_cannot_be_traced_is_a_fault_and_needs_no_letting_go() -> None:
    talk = Talk(syscall={"ret": -1, "errno": "EPERM"})
    with pytest.raises(ChannelError, match="PTRACE_SEIZE: EPERM"), puppet(talk).tracing(77):
        pytest.fail("nothing is traced")
    assert len(talk.asked) == 1


def test_puppeteer_spawns_and_ends() -> None:
    talk = Talk(spawn={"puppet": 1, "pid": 123, "kind": "spawned"})
    master = puppeteer(talk)
    assert master.spawn().pid == 123
    master.close()
    assert talk.asked == ["spawn", "(closed)"]


@pytest.mark.parametrize("fails", [False, True])
def test_attached_process_goes_on_whatever_happens(*, fails: bool) -> None:
    talk = Talk(attach={"puppet": 2, "pid": 77}, detach={"detached": 2}, syscall=REFUSED)
    try:
        with puppeteer(talk).inside(77) as inside:
            assert inside.pid == 77
            assert inside.syscall("read").errno == "EFAULT"
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert talk.asked == ["attach 77", "syscall 2 0", "detach 2"]


def test_loss_of_the_host_stays_what_it_is() -> None:
    class Lost(Talk):
        def ask(self, *requests: str, seconds: float) -> list[str]:  # noqa: ARG002
            raise MachineLostError("panic")

    with pytest.raises(MachineLostError):
        puppet(Lost()).syscall("read")


@pytest.mark.parametrize(
    ("done", "wrong"), [(Done(returned=-1, errno="EPERM"), "EPERM"), (Done(signal="SIGBUS"), "SIGBUS")]
)
def test_step_that_must_work_tells_how_it_failed(done: Done, wrong: str) -> None:
    with pytest.raises(ChannelError, match=f"close: {wrong}"):
        done.require("close")
    assert Done(returned=0).require("close") == 0
