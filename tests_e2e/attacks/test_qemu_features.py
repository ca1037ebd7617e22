# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by what QEMU itself offers to its owner: its monitors, its dump and its gdb stub.

Those that take the guest's virtual addresses (memsave, x) look them up in the guest's page tables, which are private
whatever the page is: so their only control is the plain guest. The same holds for what reads all of a guest, such as
migration.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from common.errors import ChannelError
from host_setup.channels.puppets import Done
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_RUN_DIR
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Answer, Attack, Target
from tests_e2e.support.direct_map import GUEST_PAGE_OFFSET
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.end_of_qemu import ask_until_it_ends
from tests_e2e.support.extra import open_registers, standing
from tests_e2e.support.gdb import Gdb

SAVED = f"{GUEST_RUN_DIR}/saved"  # where QEMU is to save memory, on the host
WORD = 8
GDB_PORT = 1234
TIMEOUT = 10.0

Feature = Callable[[Host, Guest, Target], bytes]


def test_qemu_cannot_save_private_page_by_pmemsave(attack: Attack) -> None:
    """QEMU cannot save a private page of its guest to a file by QMP pmemsave: it dies of SIGBUS."""

    def feature(_: Host, guest: Guest, page: Target) -> bytes:
        guest.qmp.execute("pmemsave", {"val": page.gpa, "size": PAGE_SIZE, "filename": SAVED})
        return b""

    _by_feature(attack, "QMP pmemsave", feature)


def test_qemu_cannot_print_private_page(attack: Attack) -> None:
    """QEMU cannot print a private page of its guest by xp of the human monitor: it dies of SIGBUS."""

    def feature(_: Host, guest: Guest, page: Target) -> bytes:
        return _print_page(guest, "xp", page.gpa)

    _by_feature(attack, "HMP xp", feature)


def test_qemu_cannot_sum_private_bytes(attack: Attack) -> None:
    """QEMU cannot tell the checksum of a byte of a private page by sum of the human monitor: it dies of SIGBUS."""

    def feature(_: Host, guest: Guest, page: Target) -> bytes:
        return bytes(int(guest.qmp.monitor(f"sum {page.gpa + at:#x} 1")) for at in range(WORD))

    _by_feature(attack, "HMP sum", feature)


def test_debugger_cannot_read_private_page_by_gdb_stub(attack: Attack) -> None:
    """A debugger cannot read a private page of a guest through QEMU's gdb stub: QEMU dies of SIGBUS."""

    def feature(host: Host, guest: Guest, page: Target) -> bytes:
        return _debug(host, guest, lambda gdb: gdb.read(page.gpa, PAGE_SIZE))

    _by_feature(attack, "gdb m", feature)


def test_qemu_cannot_dump_private_page(attack: Attack) -> None:
    """QEMU cannot write a private page of its guest to a dump by QMP dump-guest-memory; it lives on."""
    command: dict[str, Any] = {"protocol": f"file:{SAVED}", "paging": False, "length": PAGE_SIZE}

    def probe(guest: Guest, page: Target) -> Answer:
        try:
            guest.qmp.execute("dump-guest-memory", {"begin": page.gpa, **command})
        except ChannelError as error:
            return Answer(Done(-1, _errno(error.message)), _read_saved(attack.host))
        return Answer(Done(0), _read_saved(attack.host))

    attack.from_outside("QMP dump-guest-memory", probe)


def test_qemu_cannot_save_private_page_by_memsave(trial: Trial, attack: Attack) -> None:
    """QEMU cannot save memory of its guest by the guest's own address (QMP memsave): it dies at its page tables."""

    def feature(guest: Guest, address: int) -> bytes:
        guest.qmp.execute("memsave", {"val": address, "size": PAGE_SIZE, "filename": SAVED})
        return b""

    _by_own_address(trial, attack, feature)


def test_qemu_cannot_print_private_page_by_x(trial: Trial, attack: Attack) -> None:
    """QEMU cannot print memory of its guest by the guest's own address (HMP x): it dies at its page tables."""
    _by_own_address(trial, attack, lambda guest, address: _print_page(guest, "x", address))


def _by_own_address(trial: Trial, attack: Attack, feature: Callable[[Guest, int], bytes]) -> None:
    """Have QEMU read a canary where the guest's kernel maps it, among all memory, and judge its end and its answer.

    With private registers QEMU does not even know where the page tables are.
    """
    with standing(attack.pool, open_registers) as host:
        results = on_each(host.guests, lambda guest: _read_as_the_guest(attack, host, guest, feature))
        protected = opted_in(host.guest, results)  # it told before
    trial.legitimate(*results, protected=protected)


def _read_as_the_guest(attack: Attack, host: Host, guest: Guest, feature: Callable[[Guest, int], bytes]) -> list[Check]:
    page, protected = Attack.aim(guest, [UNDER_TEST])[0], guest.protected
    with attack.puppeteer(host) as puppeteer:
        address = GUEST_PAGE_OFFSET + page.target.gpa
        tracer, ask = puppeteer.spawn(), partial(feature, guest, address)
        done, answer = ask_until_it_ends(tracer, guest, page.target, ask, anywhere=True)
    leaked = Canary(page.planted.content).count_leaked((answer or b"") + _read_saved(host))
    return [
        Check("how QEMU ends", "SIGBUS, BUS_ADRERR" if protected else "it lives on", _end(done)),
        Check("bytes of the canary that it tells", "0" if protected else str(PAGE_SIZE), str(leaked)),
    ]


def _end(done: Done) -> str:
    return f"{done.signal}, {done.si_code}" if done.signal else "it lives on"


def _print_page(guest: Guest, command: str, address: int) -> bytes:
    """A page as words that the human monitor prints."""
    words = re.findall(r" 0x([0-9a-f]{16})", guest.qmp.monitor(f"{command} /{PAGE_SIZE // WORD}gx {address:#x}"))
    return b"".join(int(word, 16).to_bytes(WORD, "little") for word in words)


def _by_feature(attack: Attack, call: str, feature: Feature) -> None:
    """Attack by something that QEMU is asked for; what it answers, and what it left in the file, is what leaked."""

    def probe(host: Host, guest: Guest, page: Target) -> Answer:
        with attack.puppeteer(host) as puppeteer:
            done, answer = ask_until_it_ends(puppeteer.spawn(), guest, page, lambda: feature(host, guest, page))
        return Answer(done, (answer or b"") + _read_saved(host))

    attack.lethal(call, probe)


def _read_saved(host: Host) -> bytes:
    """What QEMU saved, which is removed; empty if there is nothing."""
    script = 'if [ -e "$0" ]; then cat "$0" && rm "$0"; fi'
    return host.ssh.run(["sh", "-c", script, SAVED], seconds=TIMEOUT).require().stdout


def _errno(message: str) -> str | None:
    """The name of the errno with whose words an error of QEMU's ends."""
    words = message.rpartition(": ")[2]
    return next((name for number, name in errno.errorcode.items() if os.strerror(number) == words), None)


def _debug(host: Host, guest: Guest, work: Callable[[Gdb], bytes]) -> bytes:
    """Have a debugger work on a guest's physical memory; the guest is stopped meanwhile."""
    guest.qmp.monitor(f"gdbserver tcp:127.0.0.1:{GDB_PORT}")
    stream = host.ssh.jump("127.0.0.1", GDB_PORT, seconds=TIMEOUT)
    stream.settimeout(TIMEOUT)
    try:
        gdb = Gdb(stream)
        gdb.require_ok("Qqemu.PhyMemMode:1")
        done = work(gdb)
        gdb.require_ok("D")
    finally:
        stream.close()
    guest.qmp.monitor("gdbserver none")
    return done
