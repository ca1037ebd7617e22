# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps of probes, taken by a puppet on this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_setup.channels.puppets import Puppet, Puppeteer
from signoff.observation import PAGE_SIZE
from tests_e2e.support import io_uring, perf, steps

PROGRAMS = Path(__file__).parents[2] / "guest_images/programs"
CONTENT = bytes(range(256)) * 4


class Here:
    """A session on this machine, and the conversation with a program that is started in it."""

    def converse(self, argv: list[str], *, seconds: float) -> Here:
        assert seconds > 0
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        return self

    def ask(self, *requests: str, seconds: float) -> list[str]:
        assert seconds > 0
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("".join(f"{request}\n" for request in requests))
        return [self.process.stdout.readline() for _ in requests]

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puppet]:
    out = tmp_path_factory.mktemp("programs")
    subprocess.run(["make", "-s", "-C", PROGRAMS, f"OUT={out}", out / "puppeteer"], check=True)
    puppeteer = Puppeteer(Here(), str(out / "puppeteer"))
    yield puppeteer.spawn()
    puppeteer.close()


def test_puppet_loads_and_stores_in_a_mapping_that_goes_afterwards(puppet: Puppet) -> None:
    with tempfile.NamedTemporaryFile() as shared:
        os.truncate(shared.name, PAGE_SIZE)
        with steps.open_file(puppet, shared.name) as file, steps.map_file(puppet, PAGE_SIZE, file) as address:
            steps.store_bytes(puppet, address + 10, CONTENT)
            assert steps.load_bytes(puppet, address + 9, len(CONTENT) + 1) == b"\0" + CONTENT
        assert shared.read()[10 : 10 + len(CONTENT)] == CONTENT
    assert puppet.run(steps.COPY, rdi=address, rsi=address, rcx=1).signal == "SIGSEGV"


def test_sample_is_read_from_a_ring_of_bare_frames(puppet: Puppet) -> None:
    """On Linux that maps perf's ring frame by frame, /proc/PID/mem ends in EIO there."""
    attr = puppet.memory(perf.ATTR.pack(perf.SOFTWARE, perf.ATTR.size, perf.PAGE_FAULTS, 1, 0, 0, 0, 0, 0, 0))
    tried = puppet.syscall("perf_event_open", attr, 0, -1, -1, 0)
    if tried.errno is not None:
        pytest.skip(f"this machine lets nobody use perf: {tried.errno}")
    puppet.syscall("close", tried.require("perf_event_open")).require("close")
    stack = puppet.memory(CONTENT)
    sample = perf.take_sample(puppet, perf.SAMPLE_STACK_USER, stack=len(CONTENT), rsp=stack)
    assert sample[8 : 8 + len(CONTENT)] == CONTENT


@pytest.mark.parametrize("old", [False, True])
def test_ring_of_io_uring_takes_a_request(puppet: Puppet, monkeypatch: pytest.MonkeyPatch, *, old: bool) -> None:
    """Also on Linux before 6.6, which refuses a flag that it does not know."""
    if puppet.syscall("io_uring_setup", 0, 0).errno in ("ENOSYS", "EPERM"):
        pytest.skip("this machine lets nobody use io_uring")
    if old:
        monkeypatch.setattr(io_uring, "SETUP_NO_MMAP", 1 << 31)
    with steps.open_pipe(puppet) as (out, into), io_uring.ring_of(puppet) as ring:
        answer = ring.io(io_uring.WRITE, into, puppet.memory(CONTENT), len(CONTENT))
        assert (answer.done.returned, steps.read_pending(puppet, out, PAGE_SIZE)) == (len(CONTENT), CONTENT)
