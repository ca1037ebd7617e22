# SPDX-License-Identifier: GPL-2.0-or-later
"""The C programs of ``guest_images/programs``, compiled and run on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import characters, text

from common.waiting import Deadline, poll_until
from host_setup.hosts.canaries import canary_of

SOURCES = Path(__file__).parents[2] / "guest_images" / "programs"
SHARED = sorted((SOURCES / "lib").glob("*.c"))
UAPI = Path(__file__).parents[2] / "guest_images" / "modules" / "sealproof_uapi.h"

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="ptrace of other processes and pagemap need root"),
]

Reply = dict[str, Any]

SYS = {
    "read": 0, "write": 1, "mmap": 9, "rt_sigprocmask": 14, "ioctl": 16, "pipe": 22, "pause": 34, "nanosleep": 35,
    "getpid": 39, "fork": 57, "execve": 59, "wait4": 61, "ftruncate": 77, "ptrace": 101, "exit_group": 231,
    "process_vm_readv": 310, "memfd_create": 319, "close": 3,
}  # fmt: skip
PAGE = 4096

VICTIM = Path(__file__).with_name("victim.c")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all programs and the victim."""
    out = tmp_path_factory.mktemp("programs")
    subprocess.run(["make", "-s", "-C", SOURCES, f"OUT={out}"], check=True)
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out / "victim", VICTIM], check=True)
    return out


class Server:
    """A program that speaks the line protocol."""

    def __init__(self, *argv: str | Path, **more: Any) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, **more
        )

    def send(self, lines: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(lines)
        self.process.stdin.flush()

    def reply(self) -> Reply:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the program is gone"
        reply = json.loads(line)
        assert isinstance(reply, dict)
        return reply

    def __call__(self, request: str) -> Reply:
        self.send(request + "\n")
        return self.reply()

    def ret(self, request: str) -> int:
        """What a system call returned; it must have succeeded."""
        reply = self(request)
        assert reply.get("errno_nr") == 0, (request, reply)
        return int(reply["ret"])

    def close(self) -> None:
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def puppeteer(programs: Path) -> Iterator[Server]:
    server = Server(programs / "puppeteer")
    yield server
    server.close()


@pytest.fixture
def victims(programs: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts victims; those that a test leaves behind are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(does: str) -> subprocess.Popen[str]:
        victim = subprocess.Popen(
            [programs / "victim", does], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        started.append(victim)
        assert victim.stdout and victim.stdout.readline() == "ready\n"
        return victim

    yield start
    for victim in started:
        if victim.poll() is None:
            victim.kill()
        victim.communicate()


def ask_to_end(victim: subprocess.Popen[str], *, by: str = "q") -> Reply:
    out, _ = victim.communicate(by, timeout=10)
    assert victim.returncode == 0, (victim.returncode, out)
    reply: Reply = json.loads(out)
    assert reply["bad"] == 0
    assert reply["ticks"] > 0
    return reply


def state_of(pid: int) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("State:"):
            return line.split()[1]
    return "?"


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or state_of(pid) == "Z"


def spawn_with_memory(puppeteer: Server, size: int = 4 * PAGE) -> tuple[int, int, int]:
    """A spawned puppet: its id, its pid, and the address of fresh memory in it."""
    reply = puppeteer("spawn")
    assert reply["kind"] == "spawned"
    return reply["puppet"], reply["pid"], puppeteer(f"map {reply['puppet']} {size}")["addr"]


# ---- puppeteer: what a puppet can be made to do -----------------------------


def test_system_call_results_are_exact(puppeteer: Server) -> None:
    puppet, pid, memory = spawn_with_memory(puppeteer)
    assert puppeteer(f"syscall {puppet} {SYS['getpid']}") == {"ret": pid, "errno": None, "errno_nr": 0}
    puppeteer.ret(f"syscall {puppet} {SYS['pipe']} {memory}")
    _, end = struct.unpack("<ii", bytes.fromhex(puppeteer(f"peek {puppet} {memory} 8")["hex"]))
    assert puppeteer(f"syscall {puppet} {SYS['write']} {end} 16 8") == {"ret": -1, "errno": "EFAULT", "errno_nr": 14}
    # A copy that starts well and runs into the hole behind the mapping: a short count.
    edge = puppeteer(f"map {puppet} {2 * PAGE}")["addr"] + PAGE
    assert puppeteer(f"unmap {puppet} {edge} {PAGE}") == {"unmapped": True}
    assert puppeteer.ret(f"syscall {puppet} {SYS['write']} {end} {edge - PAGE} {2 * PAGE}") == PAGE
    assert puppeteer(f"syscall {puppet} 9999")["errno"] == "ENOSYS"
    assert puppeteer(f"syscall {puppet} {SYS['close']} -1")["errno"] == "EBADF"


def test_code_runs_with_the_given_registers(puppeteer: Server) -> None:
    puppet, _, memory = spawn_with_memory(puppeteer)
    names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
    values = {name: random.getrandbits(64) for name in names}
    reply = puppeteer(f"run {puppet} 90 " + " ".join(f"{name.upper()}={value:#x}" for name, value in values.items()))
    assert reply["trap"] is True
    assert {name: reply[name] for name in names} == values
    assert reply["rip"] == reply["code"] + 2
    assert puppeteer(f"poke {puppet} {memory} 000102030405060708090a0b0c0d0e0f") == {"written": 16}
    reply = puppeteer(f"run {puppet} f30f6f075058 RDI={memory}")  # movdqu (%rdi),%xmm0; push %rax; pop %rax
    assert (reply["trap"], reply["xmm0"]) == (True, "000102030405060708090a0b0c0d0e0f")


def test_faults_are_told_by_signal_code_and_address(puppeteer: Server) -> None:
    puppet, _, memory = spawn_with_memory(puppeteer)
    load = "488b07"  # mov (%rdi),%rax
    puppeteer(f"poke {puppet} {memory} 00")
    file = puppeteer.ret(f"syscall {puppet} {SYS['memfd_create']} {memory} 0")
    puppeteer.ret(f"syscall {puppet} {SYS['ftruncate']} {file} {PAGE}")
    mapped = puppeteer.ret(f"syscall {puppet} {SYS['mmap']} 0 {2 * PAGE} 3 1 {file} 0")
    assert puppeteer(f"run {puppet} {load} RDI={mapped} RAX=1")["rax"] == 0

    def fact(code: str, address: int) -> tuple[object, ...]:
        reply = puppeteer(f"run {puppet} {code} RDI={address}")
        return reply["trap"], reply["signal"], reply["si_code"], reply["si_addr"] - (address or reply["code"])

    assert fact(load, mapped + PAGE + 8) == (False, "SIGBUS", "BUS_ADRERR", 0)
    assert fact(load, 16) == (False, "SIGSEGV", "SEGV_MAPERR", 0)
    read_only = puppeteer(f"map {puppet} {PAGE} 1")["addr"]
    assert fact("488907", read_only) == (False, "SIGSEGV", "SEGV_ACCERR", 0)
    assert fact("0f0b", 0)[:2] == (False, "SIGILL")
    reply = puppeteer(f"run {puppet} 31c931d231c0f7f1")  # div by 0
    assert (reply["signal"], reply["si_code"], reply["si_addr"]) == ("SIGFPE", "FPE_INTDIV", reply["code"] + 6)
    reply = puppeteer(f"run {puppet} cc90")  # an int3 of its own is not the end
    assert (reply["trap"], reply["signal"], reply["rip"]) == (False, "SIGTRAP", reply["code"] + 1)
    assert puppeteer(f"run {puppet} 90")["trap"] is True


def test_one_process_reads_another(puppeteer: Server) -> None:
    reader, _, memory = spawn_with_memory(puppeteer)
    owner, pid, secret_at = spawn_with_memory(puppeteer)
    secret = random.randbytes(PAGE)
    assert puppeteer(f"poke {owner} {secret_at} {secret.hex()}") == {"written": PAGE}
    puppeteer(f"poke {reader} {memory} " + struct.pack("<4Q", memory + PAGE, PAGE, secret_at, PAGE).hex())
    call = f"syscall {reader} {SYS['process_vm_readv']} {pid} {memory} 1 {memory + 16} 1 0"
    assert puppeteer.ret(call) == PAGE
    assert puppeteer(f"peek {reader} {memory + PAGE} {PAGE}") == {"hex": secret.hex()}


def test_a_puppet_can_trace_another_process(puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]) -> None:
    victim = victims("pn")
    tracer, _, memory = spawn_with_memory(puppeteer)
    ptrace = f"syscall {tracer} {SYS['ptrace']}"
    maps = Path(f"/proc/{victim.pid}/maps").read_text().splitlines()
    start = int(maps[0].split("-")[0], 16)
    word = Path("/proc/self/exe").read_bytes()[:0] + b"\x7fELF"
    puppeteer.ret(f"{ptrace} 0x4206 {victim.pid} 0 0")  # SEIZE
    puppeteer.ret(f"{ptrace} 0x4207 {victim.pid} 0 0")  # INTERRUPT
    assert puppeteer.ret(f"syscall {tracer} {SYS['wait4']} {victim.pid} {memory} 0x40000000 0") == victim.pid
    assert puppeteer.ret(f"{ptrace} 2 {victim.pid} {start} {memory + 64}") == 0  # PEEKDATA, raw: the word goes to data
    assert bytes.fromhex(puppeteer(f"peek {tracer} {memory + 64} 8")["hex"]).startswith(word)
    assert puppeteer(f"{ptrace} 2 {victim.pid} 16 {memory + 64}")["errno"] == "EIO"
    puppeteer.ret(f"{ptrace} 17 {victim.pid} 0 0")  # DETACH
    ask_to_end(victim)


def test_peek_and_poke_tell_the_errno(puppeteer: Server) -> None:
    puppet, _, memory = spawn_with_memory(puppeteer, PAGE)
    assert puppeteer(f"peek {puppet} 16 8") == {"error": "peek", "errno": "EIO", "errno_nr": 5}
    assert puppeteer(f"poke {puppet} 16 00")["errno"] == "EIO"
    edge = puppeteer(f"map {puppet} {2 * PAGE}")["addr"] + PAGE
    puppeteer(f"unmap {puppet} {edge} {PAGE}")
    assert puppeteer(f"peek {puppet} {edge - 4} 8") == {"hex": "00000000", "errno": "EIO", "errno_nr": 5}
    assert memory


# ---- puppeteer: requests ----------------------------------------------------


def test_malformed_requests_get_an_error_and_it_goes_on(puppeteer: Server) -> None:
    puppet = puppeteer("spawn")["puppet"]
    bad = [
        "", " ", "bogus", "spawn 1", "attach", "attach x", "attach 0", "attach 999999999", "syscall", "syscall 1 zz",
        "syscall 77 1", f"run {puppet} 9", f"run {puppet} xx", f"run {puppet} 90 RXX=1", f"run {puppet} 90 RAX",
        f"run {puppet} 90 RAX=", f"peek {puppet} 0x 1", f"peek {puppet} 0 0", f"poke {puppet} 0 0", "timeout 0",
        "syscall 1 18446744073709551616", "regs -1", '"\\\x01\x7f', "x " * 100, f"map {puppet} 0", "detach 5",
    ]  # fmt: skip
    for request in bad:
        assert "error" in puppeteer(request), request
    assert puppeteer("syscall 1 0x27")["ret"] > 0
    assert puppeteer("quit") == {"bye": True}


def test_many_requests_may_be_sent_before_a_reply_is_read(puppeteer: Server) -> None:
    puppet = puppeteer("spawn")["puppet"]
    count = 20000  # about 9 MB of replies: more than any pipe holds
    puppeteer.send(f"regs {puppet}\n" * count)
    first = puppeteer.reply()
    assert all(puppeteer.reply() == first for _ in range(count - 1))


def test_a_call_that_does_not_return_is_interrupted(puppeteer: Server) -> None:
    puppet, pid, memory = spawn_with_memory(puppeteer)
    puppeteer("timeout 50")
    puppeteer(f"poke {puppet} {memory} " + struct.pack("<QQ", 100, 0).hex())
    for _ in range(20):
        assert puppeteer(f"syscall {puppet} {SYS['pause']}") == {"error": "deadline"}
        assert puppeteer.ret(f"syscall {puppet} {SYS['getpid']}") == pid
        assert puppeteer(f"syscall {puppet} {SYS['nanosleep']} {memory} 0") == {"error": "deadline"}
        assert puppeteer(f"run {puppet} ebfe") == {"error": "deadline"}
        assert puppeteer(f"run {puppet} 90")["trap"] is True


def test_a_puppet_that_ends_or_becomes_another_program_is_gone(puppeteer: Server) -> None:
    first = puppeteer("spawn")["puppet"]
    assert puppeteer(f"syscall {first} {SYS['exit_group']} 7") == {"gone": True, "exited": 7}
    assert puppeteer(f"regs {first}") == {"error": "no such puppet"}
    second, _, memory = spawn_with_memory(puppeteer)
    puppeteer(f"poke {second} {memory} {b'/bin/true'.hex()}00")
    assert puppeteer(f"syscall {second} {SYS['execve']} {memory} 0 0") == {"gone": True, "exec": True}
    third = puppeteer("spawn")
    os.kill(third["pid"], signal.SIGKILL)
    poll_until(lambda: is_gone(third["pid"]), Deadline(5), "the end of the puppet")
    assert puppeteer(f"regs {third['puppet']}") == {"gone": True, "killed": "SIGKILL"}


def test_a_forked_child_idles(puppeteer: Server) -> None:
    puppet = puppeteer("spawn")["puppet"]
    child = puppeteer.ret(f"syscall {puppet} {SYS['fork']}")
    poll_until(lambda: state_of(child) == "S", Deadline(5), "the child to sleep")
    own = puppeteer(f"attach {child}")["puppet"]
    assert puppeteer.ret(f"syscall {own} {SYS['getpid']}") == child
    assert puppeteer(f"syscall {own} {SYS['exit_group']} 0") == {"gone": True, "exited": 0}


# ---- puppeteer: the victim lives on -----------------------------------------


def queue_signal(pid: int) -> None:
    # sigqueue(3) takes the value in a register, as a pointer-sized union.
    ctypes.CDLL(None).sigqueue(ctypes.c_int(pid), ctypes.c_int(signal.SIGUSR1), ctypes.c_void_p(4711))


@pytest.mark.parametrize("does", ["w", "n", "p", "f", "wa", "na", "pa", "fa", "wu", "nu", "pu", "fu", "r", "wpnfau"])
def test_a_victim_is_unharmed_by_injections(
    does: str, puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    """w works, n sleeps, p polls, f waits on a futex, r reads; a gets alarms, u gets queued signals."""
    victim = victims(does)
    signals = 0
    for _ in range(25):
        puppet = puppeteer(f"attach {victim.pid}")["puppet"]
        for _ in range(10):
            assert puppeteer(f"syscall {puppet} {SYS['getpid']}")["ret"] == victim.pid
            assert puppeteer(f"run {puppet} 488b07 RDI=16")["signal"] == "SIGSEGV"
            # Spoils rax to r15, the vector registers' first, and the direction flag.
            reply = puppeteer(f"run {puppet} 660f76c0fd RBX=1 RBP=2 R12=3 R15=4")
            assert (reply["trap"], reply["xmm0"], reply["eflags"] & 0x400) == (True, "f" * 32, 0x400)
        if "u" in does:
            queue_signal(victim.pid)
            signals += 1
        assert puppeteer(f"detach {puppet}") == {"detached": puppet}
        if "u" in does:
            poll_until(lambda: not has_pending(victim.pid), Deadline(5), "delivery of the signal")
        if "r" in does:
            assert victim.stdin
            victim.stdin.write("x")
            victim.stdin.flush()
    reply = ask_to_end(victim, by="" if "r" in does else "q")
    assert reply["queued"] == signals
    if "a" in does:
        assert reply["alarms"] > 0
    elif "u" not in does:
        assert reply["interrupted"] == 0


def has_pending(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) for line in lines)


def test_a_broken_pipe_does_not_signal_the_victim(
    puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = victims("p")
    puppet = puppeteer(f"attach {victim.pid}")["puppet"]
    memory = puppeteer(f"map {puppet} {PAGE}")["addr"]
    puppeteer.ret(f"syscall {puppet} {SYS['pipe']} {memory}")
    ends = struct.unpack("<ii", bytes.fromhex(puppeteer(f"peek {puppet} {memory} 8")["hex"]))
    puppeteer.ret(f"syscall {puppet} {SYS['close']} {ends[0]}")
    reply = puppeteer(f"syscall {puppet} {SYS['write']} {ends[1]} {memory} 8")
    assert reply == {"ret": -1, "errno": "EPIPE", "errno_nr": 32, "swallowed": "SIGPIPE"}
    puppeteer.ret(f"syscall {puppet} {SYS['close']} {ends[1]}")
    puppeteer(f"unmap {puppet} {memory} {PAGE}")
    puppeteer(f"detach {puppet}")
    ask_to_end(victim)


def test_detaching_leaves_no_mapping(puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]) -> None:
    victim = victims("p")
    maps = Path(f"/proc/{victim.pid}/maps")
    before = maps.read_text()
    puppet = puppeteer(f"attach {victim.pid}")["puppet"]
    puppeteer(f"run {puppet} 90")
    assert maps.read_text() != before
    puppeteer(f"detach {puppet}")
    assert maps.read_text() == before
    ask_to_end(victim)


def test_a_stopped_victim_stays_stopped(puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]) -> None:
    victim = victims("pn")
    victim.send_signal(signal.SIGSTOP)
    poll_until(lambda: state_of(victim.pid) == "T", Deadline(5), "the victim to stop")
    puppet = puppeteer(f"attach {victim.pid}")["puppet"]
    for _ in range(20):
        assert puppeteer.ret(f"syscall {puppet} {SYS['getpid']}") == victim.pid
    puppeteer(f"detach {puppet}")
    poll_until(lambda: state_of(victim.pid) == "T", Deadline(5), "the victim to stop again")
    victim.send_signal(signal.SIGCONT)
    ask_to_end(victim)


def test_a_stop_signal_sent_meanwhile_takes_effect_later(
    puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = victims("pn")
    puppet = puppeteer(f"attach {victim.pid}")["puppet"]
    victim.send_signal(signal.SIGSTOP)
    for _ in range(20):
        assert puppeteer.ret(f"syscall {puppet} {SYS['getpid']}") == victim.pid
    puppeteer(f"detach {puppet}")
    poll_until(lambda: state_of(victim.pid) == "T", Deadline(5), "the victim to stop")
    victim.send_signal(signal.SIGCONT)
    ask_to_end(victim)


@pytest.mark.parametrize("end", ["eof", "quit", signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_victim_outlives_the_puppeteer(
    end: str | signal.Signals, programs: Path, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    """Between requests, that is: with SIGKILL in the midst of one, the victim cannot be saved."""
    for _ in range(5):
        victim = victims("wpnf")
        server = Server(programs / "puppeteer")
        spawned = server("spawn")["pid"]
        puppet = server(f"attach {victim.pid}")["puppet"]
        server(f"syscall {puppet} {SYS['getpid']}")
        server(f"run {puppet} 488b07 RDI=16")
        if isinstance(end, signal.Signals):
            server.process.send_signal(end)
            server.process.wait(10)
        elif end == "quit":
            server("quit")
        server.close()
        reply = ask_to_end(victim)
        assert reply["interrupted"] == 0
        poll_until(lambda: is_gone(spawned), Deadline(5), "the spawned puppet's end")  # noqa: B023


def test_a_termination_does_not_wait_for_a_sleeping_call(
    programs: Path, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = victims("wp")
    server = Server(programs / "puppeteer")
    puppet = server(f"attach {victim.pid}")["puppet"]
    server("timeout 3600000")
    server.send(f"syscall {puppet} {SYS['pause']}\n")
    poll_until(lambda: Path(f"/proc/{victim.pid}/syscall").read_text().startswith("34 "), Deadline(5), "the call")
    server.process.terminate()
    assert server.process.wait(5) == 0
    server.close()
    ask_to_end(victim)


def test_a_thread_other_than_the_main_one_can_be_a_puppet(
    puppeteer: Server, victims: Callable[[str], subprocess.Popen[str]]
) -> None:
    victim = victims("w")
    threads = {int(task.name) for task in Path(f"/proc/{victim.pid}/task").iterdir()} - {victim.pid}
    for _ in range(20):
        puppet = puppeteer(f"attach {min(threads)}")["puppet"]
        assert puppeteer.ret(f"syscall {puppet} 186") == min(threads)
        puppeteer(f"detach {puppet}")
    ask_to_end(victim)


# ---- the other programs -----------------------------------------------------


def lines_of(*argv: str | Path, expect: int = 0) -> list[Reply]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_documented_structures_and_numbers_are_those_of_the_header(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(
        f'#include "{UAPI}"\n'
        '#include <stdio.h>\nint main(void) { printf("[%zu,%zu,%zu,%zu,%u,%u,%u,%u,%u,%u,%u,%u]",\n'
        "sizeof(struct sealproof_canary), sizeof(struct sealproof_attack), sizeof(struct sealproof_exit),\n"
        "sizeof(struct sealproof_string),\n"
        "(unsigned)SEALPROOF_CANARY_PLANT, (unsigned)SEALPROOF_CANARY_READ,\n"
        "(unsigned)SEALPROOF_CANARY_SHARE, (unsigned)SEALPROOF_CANARY_UNSHARE, (unsigned)SEALPROOF_CANARY_STATE,\n"
        "(unsigned)SEALPROOF_ATTACK, (unsigned)SEALPROOF_EXITS, (unsigned)SEALPROOF_STRING); }\n"
    )
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "layout", source], check=True)
    document = json.loads(subprocess.check_output([tmp_path / "layout"]))
    layouts = ["<IIQQ", "<IIQQQqQ", "<IiIIQII", "<8IQQQq"]
    numbers = [0xC0185301, 0xC0185302, 0xC0185303, 0xC0185304, 0xC0185305, 0xC0305310, 0xC2205330]
    numbers += [0xC0405340]
    assert document == [*map(struct.calcsize, layouts), *numbers]
    text = UAPI.read_text()
    assert all(words in text for words in (*layouts, *map(hex, numbers)))


def test_the_canary_refuses_a_folder_on_disk_and_names_a_missing_module(programs: Path) -> None:
    seed = random.randbytes(32).hex()
    for folder, error in (("/proc", "a file in ramfs or tmpfs for the page cache"), ("/dev/shm", "")):
        if error == "" and not Path(folder).is_dir():
            pytest.skip("no tmpfs on this machine")
        server = Server(programs / "canary", folder)
        assert server("read user subject") == {"error": "nothing planted"}
        assert "error" in server("plant 00")
        if not Path("/dev/sealproof-canary").exists():
            assert server(f"plant {seed}") == {"error": "/dev/sealproof-canary", "errno": "ENOENT", "errno_nr": 2}
        server.close()


class FakeModule:
    """The canary program on a module that is played."""

    def __init__(self, program: Path, folder: Path, fake: str) -> None:
        self.log = folder / "requests"
        with self.log.open("w") as log:
            self.server = Server(program, "/dev/shm", env={"FAKE_MODULE": fake}, stderr=log)

    def __call__(self, request: str) -> Reply:
        return self.server(request)

    def requests(self, *names: str) -> list[tuple[str, int, str]]:
        """What the module was asked since the last time: request, slot and the head of its buffer."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return [(name, int(slot), head) for name, slot, head in lines if name in names]


@pytest.fixture(scope="module")
def canary_on_a_fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs on this machine")
    out = tmp_path_factory.mktemp("fake") / "canary"
    source = Path(__file__).with_name("canary_on_a_fake.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", "-o", out, source, *SHARED], check=True
    )
    return out


SEED = "plant " + "5a" * 32
SHARED_SLOTS = [1, 3, 5]  # the control set's, of kinds user, kernel and page cache


@pytest.mark.parametrize(("fake", "states"), [("plain", ("plain", "plain")), ("protected", ("private", "shared"))])
def test_the_canary_tells_the_state_that_the_module_tells(
    canary_on_a_fake: Path,
    tmp_path: Path,
    fake: str,
    states: tuple[str, str],
) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, fake)
    assert canary("protected") == {"protected": fake == "protected"}
    planted = canary(SEED)["canaries"]
    assert [page["state"] for page in planted] == [*states] * 3
    assert len({page["gpa"] for page in planted}) == len({page["key"] for page in planted}) == 6
    for page in planted:
        answer = canary(f"read {page['kind']} {page['set']}")
        assert (answer["state"], answer["gpa"], answer["moved"]) == (page["state"], page["gpa"], False)
        assert answer["changed"] == []
    canary.server.close()


def test_the_canary_is_made_of_its_key_and_tells_what_was_changed(canary_on_a_fake: Path, tmp_path: Path) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, "protected")
    (planted,) = (page for page in canary(SEED)["canaries"] if (page["kind"], page["set"]) == ("page-cache", "subject"))
    content = canary_of(bytes.fromhex(planted["key"]))
    open_files = (Path(f"/proc/{canary.server.process.pid}/fd") / name for name in map(str, range(3, 20)))
    (file,) = (path for path in open_files if path.exists() and path.read_bytes() == content)
    with file.open("r+b") as page:
        for at, size in ((0, 1), (100, 3), (4095, 1)):
            page.seek(at)
            page.write(bytes(255 - byte for byte in content[at : at + size]))
    other = [(at, bytes(255 - byte for byte in content[at : at + size])) for at, size in ((0, 1), (100, 3), (4095, 1))]
    assert canary("read page-cache subject")["changed"] == [[at, was.hex()] for at, was in other]
    canary.server.close()


def test_what_the_canary_holds_in_registers_stays_there(canary_on_a_fake: Path, tmp_path: Path) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, "protected")
    assert canary("hold subject 10") == {"error": "nothing planted"}
    assert "canaries" in canary(SEED)
    answer = canary("hold subject 10")
    assert (answer["held"], answer["kept"], answer["address"] % 4096) == (10, True, 0)
    assert answer["emulated"] is False  # no KVM below us that knows the prefix: the program goes on without it
    assert "usage" in canary("hold subject 10001")["error"]
    canary.server.close()


def test_the_control_set_is_shared_before_it_holds_anything_and_shared_anew_at_each_plant(
    canary_on_a_fake: Path, tmp_path: Path
) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, "protected")
    first = {canary_of(bytes.fromhex(planted["key"]))[:8].hex() for planted in canary(SEED)["canaries"]}
    assert canary.requests("share", "unshare") == [("share", slot, "0" * 16) for slot in SHARED_SLOTS]
    second = {canary_of(bytes.fromhex(planted["key"]))[:8].hex() for planted in canary(SEED)["canaries"]}
    requests = canary.requests("share", "unshare")
    assert [request[:2] for request in requests] == [(name, n) for n in SHARED_SLOTS for name in ("unshare", "share")]
    heads = {head for name, _, head in requests if name == "share"}
    assert heads <= first | {"0" * 16}
    assert not heads & second
    canary.server.close()


def test_canaries_of_ours_move_at_each_plant_unless_they_are_to_stay(canary_on_a_fake: Path, tmp_path: Path) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, "protected")
    files: list[int] = []
    for request in (SEED, f"{SEED} again", SEED):
        planted = canary(request)["canaries"]
        open_files = [Path(f"/proc/{canary.server.process.pid}/fd/{number}") for number in range(3, 60)]
        ours = [path for path in open_files if path.exists() and "/canary." in str(path.readlink())]
        contents = {canary_of(bytes.fromhex(page["key"])) for page in planted if page["kind"] == "page-cache"}
        assert contents == {path.read_bytes() for path in ours} - {bytes(4096)}
        assert canary("read page-cache subject")["changed"] == []
        files.append(len(ours))
    assert files == [2, 2, 4]
    assert "usage" in canary(f"{SEED} twice")["error"]
    canary.server.close()


@pytest.mark.parametrize(("fake", "states"), [("plain", ["plain"] * 2), ("protected", ["shared", "private"])])
def test_a_private_page_is_shared_and_taken_back_with_its_content(
    canary_on_a_fake: Path, tmp_path: Path, fake: str, states: list[str]
) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, fake)
    assert canary("share kernel subject") == {"error": "nothing planted"}
    assert "canaries" in canary(SEED)
    for kind in ("user", "kernel", "page-cache"):
        answer = [canary(f"{change} {kind} subject")["state"] for change in ("share", "unshare")]
        assert answer == states
        assert canary(f"read {kind} subject")["changed"] == []
    assert "usage" in canary("share disk private")["error"]
    canary.server.close()


@pytest.mark.parametrize(
    ("fails", "request_", "error"),
    [
        ("share", SEED, "share the user page"),
        ("unshare", SEED, "make private the user page"),
        ("state", SEED, "tell the state of the user page"),
        ("state", "protected", "tell the state of the kernel page"),
        ("plant", SEED, "ioctl on /dev/sealproof-canary"),
    ],
)
def test_the_canary_says_what_failed_and_the_errno(
    canary_on_a_fake: Path, tmp_path: Path, fails: str, request_: str, error: str
) -> None:
    canary = FakeModule(canary_on_a_fake, tmp_path, f"protected {fails}")
    if fails == "unshare":
        assert "canaries" in canary(request_)
    assert canary(request_) == {"error": error, "errno": "ENOLCK", "errno_nr": 37}
    canary.server.close()


def test_the_nonce_is_kept_and_questions_are_counted(programs: Path) -> None:
    script = "{0} serve && {0} set 00ffA1 && {0} get && {0} get && {0} set zz; {0} get; {0} set 77 && {0} get"
    # Namespaces of its own: another nonce may be served here, and the daemon must end.
    argv = ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script.format(programs / "nonce")]
    replies = lines_of(*argv)
    assert replies == [
        {"set": True},
        {"nonce": "00ffa1", "asked": 0},
        {"nonce": "00ffa1", "asked": 1},
        {"error": "usage: nonce set HEX; at most 64 bytes"},
        {"nonce": "00ffa1", "asked": 2},
        {"set": True},
        {"nonce": "77", "asked": 0},
    ]


def test_the_network_check_agrees_with_the_echo_server(programs: Path) -> None:
    server = Server(programs / "echo_server")
    port = server.reply()["port"]
    size = 3_000_001
    for seed in (1, 2):
        (check,) = lines_of(programs / "check_net", "127.0.0.1", str(port), str(size), str(seed))
        assert check["expected"] == check["got"]
        assert (check["received"], check["end"]) == (size, "complete")
        assert server.reply() == {"bytes": size, "fnv1a64": check["expected"]}
    server.close()
    assert server.process.returncode == 0
    lines_of(programs / "check_net", "127.0.0.1", str(port), "10", expect=1)


def test_the_datagram_check_gets_back_what_it_sent(programs: Path) -> None:
    server = Server(programs / "echo_datagrams")
    port = server.reply()["port"]
    (check,) = lines_of(programs / "check_datagrams", "127.0.0.1", str(port), "50", "1")
    assert (check["expected"], check["got"]) == (50, 50)
    assert check["bytes"] > 50 * 8
    server.close()
    assert server.process.returncode == 0


def test_the_port_check_agrees_with_the_echo_behind_the_port(programs: Path) -> None:
    main, port = os.openpty()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(programs / "echo_port", str(listener.getsockname()[1]), "20000")
        behind, _ = listener.accept()
    assert server.reply() == {"connected": True}

    def copy(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError):  # the port is closed
            while data := read(1000):
                write(data)

    for read, write in (
        (lambda size: os.read(main, size), behind.sendall),
        (behind.recv, lambda data: os.write(main, data)),
    ):
        threading.Thread(target=copy, args=(read, write), daemon=True).start()
    (check,) = lines_of(programs / "check_port", os.ttyname(port), "20000", "1")
    assert check["expected"] == check["got"]
    assert server.reply() == {"bytes": 20000, "fnv1a64": check["expected"]}
    server.close()
    os.close(port)
    os.close(main)
    behind.close()


@pytest.mark.parametrize("depth", [0, 1, 16])
def test_the_disk_rounds_read_what_they_wrote(programs: Path, tmp_path: Path, depth: int) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2 << 20))
    argv = [programs / "check_disk_rounds", disk, "2", "3", str(depth), "7"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if depth and "open the device: Invalid argument" in done.stderr:
        pytest.skip("this file system has no O_DIRECT")
    check = json.loads(done.stdout)
    assert (check["expected"], check["got"], check["bytes"]) == (48, 48, 6 << 20)
    assert len(set(struct.unpack(f"<{(2 << 20) // 8}Q", disk.read_bytes()))) == (2 << 20) // 8


def test_the_random_check_knows_zeros_and_nothing(programs: Path, tmp_path: Path) -> None:
    def wrong_checks(path: str | Path) -> list[str]:
        return [c["name"] for c in lines_of(programs / "check_random", path) if c["expected"] != c["got"]]

    short = tmp_path / "short"
    short.write_bytes(os.urandom(9000))
    assert wrong_checks("/dev/urandom") == []
    assert len(wrong_checks("/dev/zero")) == 3
    assert wrong_checks(short)[:3] == ["bytes that came first", "bytes that came then", "they are other ones"]


def test_the_disk_check_reads_what_it_wrote(programs: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2 << 20))
    done = subprocess.run([programs / "check_disk", disk, "2", "7"], capture_output=True, text=True, check=False)
    if "Invalid argument" in done.stderr:
        pytest.skip("this file system has no O_DIRECT")
    check = json.loads(done.stdout)
    assert check["expected"] == check["got"]
    checksum = 0xCBF29CE484222325
    for byte in disk.read_bytes():
        checksum = (checksum ^ byte) * 0x100000001B3 & (1 << 64) - 1
    assert check["got"] == f"{checksum:#018x}"


def families() -> list[tuple[str, str]]:
    text = (SOURCES / "emulated_instructions.h").read_text()
    of_one_size = re.findall(r'^INSN(?:_32)?\("([^"]+)", (\d+),', text, re.MULTILINE)
    of_all_sizes = re.findall(r'^(?:TO|FROM|ON)_MEMORY\("([^"]+)"', text, re.MULTILINE)
    return sorted({*of_one_size, *itertools.product([*of_all_sizes, "string", "shift"], ("1", "2", "4", "8"))})


@pytest.mark.parametrize(("family", "size"), families(), ids="-".join)
def test_instruction_comes_to_an_end_and_without_the_prefix_to_sigill(programs: Path, family: str, size: str) -> None:
    *checks, cases = lines_of(programs / "check_emulation", family, size, "5", "private")
    refused = family in ("cmpxchg16b", "fxsave64")
    assert cases["name"] == "cases that KVM emulated"
    assert cases["got"] == 0 or cases["got"] == cases["expected"], (
        "all, where this machine's KVM has the prefix, or none"
    )
    for check in checks if not cases["got"] else []:
        expected, endings = (check[word].split("; ") for word in ("expected", "got"))
        assert all("SIGILL" in case for case in endings[1:])
        assert all("SIGILL" in case or "rip" in case for case in expected[1:])
        assert any("SIGILL" not in case for case in expected[1:]) is not refused
    assert (cases["expected"] == 0) is refused


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The emulator check with another prefix: what it does is then what "KVM" did before the instruction."""
    out = tmp_path_factory.mktemp("prefixed")

    def build(code: str) -> Path:
        program = out / code
        if not program.exists():
            unit = SOURCES / "lib/one_instruction.c"
            text = unit.read_text()
            bytes_ = ", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(code))
            changed = text.replace("{ 0x0f, 0x0b, 'k', 'v', 'm' }", f"{{ {bytes_} }}")
            assert changed != text
            (out / "one_instruction.c").write_text(changed)
            units = [
                SOURCES / "check_emulation.c",
                *(file for file in SHARED if file != unit),
                out / "one_instruction.c",
            ]
            subprocess.run(["gcc", "-O2", "-static", "-I", SOURCES / "lib", "-o", program, *units], check=True)
        return program

    return build


NOPS, CHANGES_RBP, CHANGES_FLAGS = "0f1f440000", "48ffc56690", "f566906690"  # nop; inc rbp; cmc


@pytest.mark.parametrize(("family", "size"), families(), ids="-".join)
def test_no_difference_is_found_where_both_ways_are_the_processors(
    prefixed: Callable[[str], Path], family: str, size: str
) -> None:
    *checks, cases = lines_of(prefixed(NOPS), family, size, "5", "private")
    differ = [check["name"] for check in checks if check["expected"] != check["got"]]
    if family in ("cmpxchg16b", "fxsave64", "torn"):  # here KVM is to do otherwise
        assert len(differ) == len(checks)
    else:
        # What comes of a string's comparisons that a fault ends is KVM's way in "expected", and AMD's here.
        assert all("scas" in name or "cmps" in name for name in differ)
        assert cases["got"] == cases["expected"]


@pytest.mark.parametrize("prefix", [CHANGES_RBP, CHANGES_FLAGS])
def test_each_difference_is_found(prefixed: Callable[[str], Path], prefix: str) -> None:
    *checks, _ = lines_of(prefixed(prefix), "mov", "8", "5", "private")
    assert all(check["expected"] != check["got"] for check in checks)


def test_same_seed_makes_the_same_cases(programs: Path) -> None:
    first, same, other = (lines_of(programs / "check_emulation", "string", "4", seed, "private") for seed in "556")
    assert first == same != other


def test_emulator_check_refuses_what_it_does_not_know(programs: Path) -> None:
    for argv in (["mov"], ["mov", "3"], ["sing", "1"], ["mov", "1", "5", "public"]):
        assert subprocess.run([programs / "check_emulation", *argv], check=False, capture_output=True).returncode == 2


def test_atomic_check_loses_nothing_where_nothing_is_emulated(tmp_path: Path) -> None:
    source = (SOURCES / "check_atomic.c").read_text()
    native = re.sub(r'#define PREFIX ".*', '#define PREFIX ""', source)
    assert native != source
    (tmp_path / "native.c").write_text(native)
    command = ["gcc", "-O2", "-static", "-I", SOURCES, "-o", tmp_path / "native", tmp_path / "native.c", *SHARED]
    subprocess.run(command, check=True)
    if len(os.sched_getaffinity(0) & {0, 1}) < 2:
        pytest.skip("needs CPUs 0 and 1")
    *locked, unlocked = lines_of(tmp_path / "native", "20000", "2000")
    assert len(locked) == 5
    assert all(check["expected"] == check["got"] and check["emulated"] >= 2000 for check in locked)
    assert unlocked["name"] == "without lock some are lost"


def test_the_tiny_vm_names_its_rows(programs: Path) -> None:
    for words in ([], ["walk-bits"], ["walk-bits", "x"], ["x", "plain"], ["walk-bits", "plain", "x"]):
        done = subprocess.run([programs / "tiny_vm", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "rows: walk-bits " in done.stderr


def test_the_tiny_vm_runs_where_there_is_kvm(programs: Path) -> None:
    done = subprocess.run([programs / "tiny_vm", "walk-bits", "plain"], capture_output=True, text=True, check=False)
    if done.returncode == 1:
        pytest.skip(f"no VM on this machine: {done.stderr.strip()}")
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    by_the_processor = [check for check in checks if check["name"].endswith("by the processor")]
    assert len(by_the_processor) == 8
    # Without the prefix KVM carries out nothing; whether there is one is this machine's affair.
    named = {check["name"]: check for check in checks}
    lines = [*by_the_processor, named["exits that must not be"], named["operand pages that the host reaches before"]]
    assert all(check["got"] == check["expected"] for check in lines)


def test_a_processor_is_said_not_to_run_and_what_the_guest_asks_there_is_counted(programs: Path) -> None:
    area = ctypes.create_string_buffer(64)  # struct kvm_steal_time
    server = Server(programs / "say_preempted", str(os.getpid()), hex(ctypes.addressof(area)))
    assert server.reply() == {"told": True}
    for _ in range(3):
        poll_until(lambda: area[16] == b"\1", Deadline(5), "the byte to be stored", interval=0.001)
        area[16] = b"\3"
    poll_until(lambda: area[16] == b"\1", Deadline(5), "the byte to be stored", interval=0.001)
    server.send("end\n")
    assert server.reply() == {"asked": 3}
    assert area.raw == bytes(16) + b"\1" + bytes(47)
    assert server.process.wait(timeout=5) == 0


def test_the_driven_vm_takes_no_argument(programs: Path) -> None:
    done = subprocess.run([programs / "driven_vm", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: driven_vm < LINES\n"


def test_the_driven_vm_answers_each_line_where_there_is_kvm(programs: Path) -> None:
    replies = {
        "slot 1 0x100 3 0 rw": "ok",
        "slot 2 0x102 1 9 rw": "EEXIST",
        "fill 0x100 2 5 native": ["ok", "ok"],
        "store 2 1 9": ["ok"],
        "look 0x100 4 native": ["5", "6", "9", "device"],
        "fork": "ok",
        "move 0 1 all": "ok",
        "store 0 2 20": ["SIGSEGV", "ok"],
        "protect 2 1 none": "ok",
        "protect 0 2 read": "ENOMEM",
        "child": ["5", "6", "9", *["0"] * 61],
        "reap": "ok",
        "await 1": "ok",
        "arrive 30": "ok",
        "register 0 1": "ok",
        "registered 0": "30",
        "registered 0 31": "ok",
        "unregister 0": "ok",
        "look 0x101 1 native": ["31"],
        "second 1 1": "ok",
        "seconds 1": ["31"],
        "unmap 1 1": "ok",
        "advise 1 1 4": "ENOMEM",
        "none such": {"error": "unknown request"},
        "pinned 1": {"error": "pinned"},
    }
    lines = "".join(f"{line}\n" for line in replies)
    done = subprocess.run([programs / "driven_vm"], input=lines, capture_output=True, text=True, check=False)
    if done.returncode == 1 and "/dev/kvm" in done.stderr:
        pytest.skip(f"no VM on this machine: {done.stderr.strip()}")
    assert dict(zip(replies, map(json.loads, done.stdout.splitlines()), strict=True)) == replies


def test_the_measure_of_protection_refuses_what_it_does_not_know(programs: Path) -> None:
    many = ["populate", "plain", "8", *"00000"]
    for words in ([], ["rounds", "5"], ["x", "5", "0"], ["rounds", "0", "0"], ["populate", "plain", "8"], many):
        done = subprocess.run([programs / "measure_protection", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: measure_protection interrupts PAGES CPU ")


def test_the_measure_of_protection_runs_a_plain_guest_where_there_is_kvm(programs: Path) -> None:
    words = ["populate", "plain", "8", *[str(min(os.sched_getaffinity(0)))] * 4]
    done = subprocess.run([programs / "measure_protection", *words], capture_output=True, text=True, check=False)
    if done.returncode == 1:
        pytest.skip(f"no VM on this machine: {done.stderr.strip()}")
    assert json.loads(done.stdout)["seconds"] > 0


def test_the_clock_check_measures(programs: Path) -> None:
    if not Path("/sys/devices/system/clocksource/clocksource0").is_dir():
        pytest.skip("no clocksource in sysfs")
    checks = {check["name"]: check for check in lines_of(programs / "check_clock")}
    assert checks["the clock never goes back"]["got"] == 0
    assert checks["a sleep of 200 ms takes 200 ms to 5 s"]["elapsed_ns"] >= 200_000_000


def test_the_device_check_says_that_there_is_no_device(programs: Path) -> None:
    if any(p.read_text() == "0x11e8\n" for p in Path("/sys/bus/pci/devices").glob("*/device")):
        pytest.skip("this machine has the edu device")
    lines_of(programs / "check_mmio", expect=1)


@pytest.mark.parametrize("words", [["x"], ["=x"], ["x="], [f"{'n' * 33}=x"], ["a=b"] * 5], ids=str)
def test_the_beat_refuses_guests_without_name_or_path_and_too_many(programs: Path, words: list[str]) -> None:
    done = subprocess.run([programs / "beat", "/dev/null", "5", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "NAME=GUEST_PATH" in done.stderr


def test_the_beat_goes_on_without_a_reader_and_forwards_the_guest(programs: Path, tmp_path: Path) -> None:
    fifo, guest, other = tmp_path / "fifo", tmp_path / "guest", tmp_path / "none"
    os.mkfifo(fifo)
    guest.write_text("0\n1\r\n2")
    beat = subprocess.Popen([programs / "beat", fifo, "5", f"one={guest}", f"two={other}"])
    try:
        for _ in range(2):  # a reader that comes late, goes, and comes again
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            output = b""
            deadline = Deadline(10)
            while output.count(b"\n") < 5 and not deadline.is_over():
                if select.select([reader], [], [], 1)[0]:
                    output += os.read(reader, 4096)
            os.close(reader)
            numbers = [int(line.split()[0].removeprefix(b"host=")) for line in output.splitlines()[:5]]
            assert numbers == list(range(numbers[0], numbers[0] + 5))
            assert output.splitlines()[4].endswith(b" one=1 two=-1")
        # A reader that does not read: the port fills up, beats are left out, lines stay whole.
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with guest.open("a") as more:
            more.write("9\n3\r\n")
        other.write_text("5\n")
        output = b""
        deadline = Deadline(10)
        while b" one=3 two=5\n" not in output and not deadline.is_over():
            if select.select([reader], [], [], 1)[0]:
                output += os.read(reader, 4096)
        os.close(reader)
        assert b" one=3 two=5\n" in output
        assert beat.poll() is None
    finally:
        beat.kill()
        beat.wait()


def test_the_beat_forgets_a_guest_whose_file_is_gone_and_hears_the_next_one(programs: Path, tmp_path: Path) -> None:
    fifo, guest = tmp_path / "fifo", tmp_path / "guest"
    os.mkfifo(fifo)
    guest.write_text("7\r\n")
    beat = subprocess.Popen([programs / "beat", fifo, "5", f"one={guest}"])
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def wait_for(words: bytes) -> None:
        output = b""
        deadline = Deadline(10)
        while words not in output and not deadline.is_over():
            if select.select([reader], [], [], 1)[0]:
                output += os.read(reader, 4096)
        assert words in output

    try:
        wait_for(b" one=7\n")
        guest.unlink()
        wait_for(b" one=-1\n")
        guest.write_text("0\r\n")
        wait_for(b" one=0\n")
    finally:
        os.close(reader)
        beat.kill()
        beat.wait()


# --- page_info


def test_page_info_tells_what_the_kernel_knows_of_a_process(programs: Path) -> None:
    page = mmap.mmap(-1, 4096)
    page[0] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    server = Server(programs / "page_info", str(os.getpid()))
    (entry,) = server(f"pagemap {address:#x}")["entries"]
    assert entry >> 63, "the page is present"
    (mapping, flags), nothing = server(f"mappings {address:#x} 0x10")["mappings"]
    first, last = (int(word, 16) for word in mapping.split()[0].split("-"))
    assert first <= address < last
    assert flags.startswith("VmFlags: rd wr")
    assert nothing == ["", ""]
    assert server("protection") == {"protection": ""}
    assert "error" in server("pagemap here")
    assert "error" in server("mappings here")
    server.close()


def test_page_info_of_a_process_that_is_gone_says_so(programs: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    server = Server(programs / "page_info", str(process.pid))
    assert server("pagemap 0x1000")["errno"] == "ENOENT"
    assert server("mappings 0x1000")["errno"] == "ENOENT"
    server.close()


# ---- tsc_rate ---------------------------------------------------------------


def test_rate_of_the_counter_is_the_same_when_it_is_measured_again(programs: Path) -> None:
    def measure(ms: int) -> int:
        argv = [programs / "tsc_rate", str(ms)]
        khz: int = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)["khz"]
        return khz

    # Between them are those that a kernel takes for the same (KVM: tsc_tolerance_ppm, 250).
    assert abs(measure(20) / measure(200) - 1) < 250e-6


# ---- sweep ------------------------------------------------------------------


@pytest.mark.parametrize(("way", "refusal"), [("process_vm_readv", "EFAULT"), ("proc_pid_mem", "EIO")])
@pytest.mark.parametrize("size", [PAGE, 8])
def test_sweep_tells_page_by_page_what_can_be_read(
    programs: Path, puppeteer: Server, way: str, refusal: str, size: int
) -> None:
    count, holes = 700, {0: 1, 10: 1, 300: 270, 699: 1}
    puppet, pid, memory = spawn_with_memory(puppeteer, count * PAGE)
    for first in range(0, count, 7):
        puppeteer(f"poke {puppet} {memory + first * PAGE:#x} 01")
    for first, pages in holes.items():
        assert puppeteer(f"unmap {puppet} {memory + first * PAGE:#x} {pages * PAGE}")["unmapped"]
    argv = [programs / "sweep", str(pid), way, str(size), hex(memory), str(count)]
    document = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    refused = {page for first, pages in holes.items() for page in range(first, first + pages)}
    results = {(first - memory) // PAGE + at: met for first, pages, met in document["found"] for at in range(pages)}
    assert results == {page: refusal if page in refused else None for page in range(count)}
    absent = {(first - memory) // PAGE + at for first, pages in document["absent"] for at in range(pages)}
    assert refused < absent
    assert absent.isdisjoint(set(range(0, count, 7)) - refused)


def test_sweep_refuses_what_it_does_not_know(programs: Path) -> None:
    for argv in (["1"], ["1", "by_magic"], ["1", "process_vm_readv", "0"], ["1", "process_vm_readv", "8", "0x1000"]):
        assert subprocess.run([programs / "sweep", *argv], check=False, capture_output=True).returncode == 2


# ---- shell ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shell, with a program in busybox's place that tells its arguments."""
    out = tmp_path_factory.mktemp("shell")
    (out / "ash").write_text("#!/bin/sh\nprintf 'ash:%s\\n' \"$*\"\n")
    (out / "ash").chmod(0o755)
    flags = f'CFLAGS=-O0 -std=gnu11 -DASH="\\"{out}/ash\\""'
    subprocess.run(["make", "-s", "-C", SOURCES, f"OUT={out}", flags], check=True)
    return out / "shell"


def output_of(*argv: Path | str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@given(word=text(characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_shell_runs_our_programs_itself_with_the_words_that_they_were_given(shell: Path, word: str) -> None:
    # This program repeats a word that is no number.
    argv = [str(shell.with_name("check_port")), "a path", f"x{word}"]
    done = subprocess.run([shell, "-c", shlex.join(argv)], check=False, capture_output=True, timeout=60)
    assert done.stderr == f"not a number: x{word}\n".encode()
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize(
    "rest",
    [
        "; true",
        " | cat",
        " > file",
        " $HOME",
        ' "$HOME"',
        ' "`id`"',
        ' "a\\b"',
        " *",
        " &",
        "\ntrue",
        " 'no end",
        " ~",
        " \\x",
    ],
)
def test_shell_leaves_to_ash_what_takes_a_shell(shell: Path, rest: str) -> None:
    command = f"{shell.with_name('check_port')} path x{rest}"
    assert output_of(shell, "-c", command) == f"ash:-c {command}\n"


def test_shell_leaves_other_programs_and_other_uses_to_ash(shell: Path) -> None:
    for command in ("", " ", "check_port path x", "/usr/bin/check_port path x", f"{shell.parent}/ash path x", "exit 3"):
        assert output_of(shell, "-c", command) == f"ash:-c {command}\n"
    assert output_of(shell) == "ash:\n"
    assert output_of(shell, "-c", f"{shell.with_name('check_port')} path x", "more").startswith("ash:-c ")
    login = subprocess.run(["-shell"], executable=shell, check=False, capture_output=True, text=True, timeout=60)
    assert login.stdout == "ash:\n"


def test_the_programs_compile_in_a_checkout_with_blanks_in_its_path(tmp_path: Path) -> None:
    checkout, out = tmp_path / "my check out", tmp_path / "out"
    shutil.copytree(SOURCES.parent, checkout / "guest_images", ignore=shutil.ignore_patterns("__pycache__"))
    argv = ["make", "--dry-run", "-C", str(checkout / "guest_images/programs"), f"OUT={out}"]
    commands = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert f"{out}/.objects/puppeteer.o puppeteer.c" in commands
