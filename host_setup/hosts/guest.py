# SPDX-License-Identifier: GPL-2.0-or-later
"""A nested guest on a host: its QEMU, its canaries, and where its memory lies.

Every guest boots the same kernel from the same files with the same devices; what differs is whether it may ask its host
for protection. Its virtio devices ask the guest for addresses that they may use (``iommu_platform``), as a protected
guest must bounce its data through pages that it has shared; a plain one gives them any address.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from common.errors import ChannelError, DeadlineError, HarmError, MachineError, MachineLostError
from common.threads import workers
from common.waiting import Deadline, poll_until
from host_setup.channels.credentials import Login
from host_setup.channels.qmp import Qmp
from host_setup.channels.ssh import Conversation, Ssh, Stream
from host_setup.channels.vitals import Vitals
from host_setup.hosts import exits
from host_setup.hosts.exits import Exits
from host_setup.kernel.series import Mode

RUN = "/run/guest"
PROGRAMS = "/sealproof"  # in the guest
HOST_PROGRAMS = "/payload/programs"
UP = "sealproof: the guest is up"  # guest_images/guest/init
PAGE = 4096
HOST_ID = "/run/sealproof-host-id"
# Documentation/admin-guide/mm/pagemap.rst
PAGEMAP_ENTRY = struct.Struct("<Q")
PAGEMAP_PRESENT = 1 << 63
PAGEMAP_PFN = (1 << 55) - 1
ASKED = 32  # pages in one request, which has at most 40 words (guest_images/programs/line_server.h)
# The nested guest's LAPIC TSC-deadline timer gets lost under emulation; off, none of 32 boots hung (docs/emulation.md).
# And the emulation does not tell KVM of a nested XSETBV, so CPUID's XSAVE sizes stay what they were before it, and the
# guest's kernel warns of them ("XSAVE consistency problem"): the guest gets no XSAVE.
CPU = "host,migratable=off,tsc-deadline=off,xsave=off"
VIRTIO = "iommu_platform=on,disable-legacy=on"
# Of 2 KiB each, 16 MiB in all. By itself the kernel takes 64 MiB, and clears each of their pages as it boots: a fifth
# of the boot.
BOUNCE_SLOTS = 8192
# What a guest asks its host for, as guest_images/programs/canary.c names it. A refusal is no fault of the harness.
REQUESTS = ("make private ", "share ")


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A guest to be.

    :param opts_in: whether it asks its host for protection, if the host offers it; it boots also if it cannot have it.
    :param memory: MiB. :param cpus: virtual CPUs.
    :param ssh_port: TCP port of the host that leads to the guest's SSH server.
    :param qmp_port: port of the host's loopback that leads to its QEMU's QMP. :param scratch: MiB of its disk.
    :param machine: QEMU's name of the chipset. :param backend: what its memory is made of, as QEMU's ``-object`` takes
        it; empty: anonymous memory. :param reboots: a reset boots it again; else it ends its QEMU.
    :param words: added to its kernel's command line. :param extra: added to QEMU's arguments.
    """

    name: str = "plain"
    opts_in: bool = False
    memory: int = 192
    cpus: int = 1
    ssh_port: int = 2222
    qmp_port: int = 4444
    scratch: int = 32
    machine: str = "pc"
    backend: str = ""
    reboots: bool = False
    words: str = ""
    extra: tuple[str, ...] = ()

    @property
    def console(self) -> str:
        """The guest's console log, a file of the host."""
        return f"{RUN}/{self.name}.console"

    @property
    def beat(self) -> str:
        """The guest's heartbeat, a file of the host."""
        return f"{RUN}/{self.name}.beat"

    @property
    def pid_file(self) -> str:
        """Where the guest's QEMU leaves its process id, a file of the host."""
        return f"{RUN}/{self.name}.pid"

    def argv(self) -> list[str]:
        """The command that starts the guest on its host; a real QEMU on KVM, nothing of ours in it."""
        disk = f"{RUN}/{self.name}.disk"
        net = f"user,id=net,hostfwd=tcp::{self.ssh_port}-:22"
        protection = f"kvm_protected_mem=on swiotlb={BOUNCE_SLOTS}" if self.opts_in else "kvm_protected_mem=off"
        backend = [*("-object", f"{self.backend},id=ram,size={self.memory}M")] if self.backend else []
        machine = f"{self.machine},accel=kvm{',memory-backend=ram' if backend else ''}"
        return [
            *("qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *(*([] if self.reboots else ["-no-reboot"]), *backend, "-machine", machine),
            *("-cpu", CPU, "-smp", str(self.cpus), "-m", str(self.memory)),
            *("-kernel", "/payload/guest/bzImage", "-initrd", "/payload/guest/initramfs"),
            *("-append", f"console=ttyS0 loglevel=5 panic=-1 oops=panic nokaslr {protection} {self.words}".rstrip()),
            *("-serial", f"file:{self.console}", "-serial", f"file:{self.beat}"),
            *("-netdev", net, "-device", f"virtio-net-pci,netdev=net,romfile=,{VIRTIO}"),
            *("-drive", f"file={disk},if=none,id=scratch,format=raw"),
            *("-device", f"virtio-blk-pci,drive=scratch,{VIRTIO}"),
            *("-device", f"virtio-rng-pci,{VIRTIO}", "-device", "edu"),
            *("-qmp", f"tcp:127.0.0.1:{self.qmp_port},server=on,wait=off", "-pidfile", self.pid_file, "-daemonize"),
            *self.extra,
        ]

    def start(self, ssh: Ssh) -> None:
        """Start the guest's QEMU on the host.

        :raises ChannelError: QEMU refused; with what it said.
        """
        disk = f"{RUN}/{self.name}.disk"
        ssh.run(["truncate", "-s", f"{self.scratch}M", disk], seconds=10).require()
        ssh.run(self.argv(), seconds=30).require()


PLAIN = GuestSpec()
PROTECTED = GuestSpec(name="protected", opts_in=True, memory=208, ssh_port=2223, qmp_port=4445)
"""It has 16 MiB more, as its bounce buffers take so many."""


def guests_for(*, series: Mode, mode: Mode) -> tuple[GuestSpec, ...]:
    """The guests of a host: the one under test first, then, if that one is to be protected, the plain one beside it.

    :param series: what the kernel brings. :param mode: what is asked for.
    """
    return (PROTECTED, PLAIN) if series is mode is Mode.PROTECTED else (PLAIN,)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page of the guest is: guest-physical, virtual in its QEMU, host-physical; all in bytes."""

    gpa: int
    hva: int
    hpa: int


@dataclass(frozen=True, slots=True)
class Planted:
    """A canary as the guest told it.

    :ivar kind: user, kernel or page-cache. :ivar set: private or control.
    :ivar state: what the guest's kernel says of its page: plain, private or shared.
    :ivar key: what the guest made the content of.
    """

    kind: str
    set: str
    state: str
    address: Address
    content: bytes
    key: bytes = field(default=b"", compare=False)

    def __repr__(self) -> str:
        """Without the content: a canary appears in no log before it leaked."""
        return f"Planted({self.kind}, {self.set}, {self.state}, gpa={self.address.gpa:#x})"


def made_of(key: bytes) -> bytes:
    """The canary that a guest makes of a random key of 32 bytes: what ChaCha20 encrypts a page of zeros to.

    So 32 bytes cross the network instead of 4,096: half of an attack's time went there.
    """
    return Cipher(ChaCha20(key, nonce=bytes(16)), mode=None).encryptor().update(bytes(PAGE))


def _with(content: bytes, changed: Sequence[tuple[int, str]]) -> bytes:
    found = bytearray(content)
    for at, digits in changed:
        found[at : at + len(digits) // 2] = bytes.fromhex(digits)
    return bytes(found)


class Guest:
    """A running nested guest.

    :param host: gives the session with its host. :param stream: makes a stream to the guest's SSH server, through the
        host, within so many seconds.
    """

    def __init__(
        self,
        spec: GuestSpec,
        host: Callable[[], Ssh],
        login: Login,
        vitals: Vitals,
        stream: Callable[[float], Stream],
    ) -> None:
        self.spec = spec
        self.vitals = vitals
        self._host_session = host
        self._login = login
        self._stream = stream
        self._ssh: Ssh | None = None
        self._qmp: Qmp | None = None
        self._talks: dict[str, Conversation] = {}
        self._pid: int | None = None
        self._hvas: dict[int, int] = {}
        self._protected: bool | None = None
        self._host_id = ""

    @property
    def host_id(self) -> str:
        """Names one start of its host, the same for all guests there: whoever asks first gives the name.

        No number of the host's own would do: a restored host has those of the saved state again.
        """
        if not self._host_id:
            give = f"(set -C; echo {secrets.token_hex(16)} >{HOST_ID}) 2>/dev/null; cat {HOST_ID}"
            self._host_id = self._host.run(["sh", "-c", give], seconds=10).require().text.strip()
        return self._host_id

    @property
    def _host(self) -> Ssh:
        return self._host_session()

    @property
    def ssh(self) -> Ssh:
        """A session with the guest, through its host; made on first use."""
        if self._ssh is None:
            self._ssh = self.connect(seconds=60)
        return self._ssh

    def connect(self, *, seconds: float) -> Ssh:
        """A new SSH session with the guest, through its host. A server that is not up yet is tried again.

        :raises DeadlineError: it does not answer in time.
        """
        deadline = Deadline(seconds)
        return poll_until(
            lambda: Ssh(self._stream(deadline.left() or 1), self._login, self.vitals, deadline),
            deadline,
            f"SSH of guest {self.spec.name}",
            check=self.vitals.check,
            explain=self.console_tail,
            not_yet=(ChannelError, OSError),
            interval=0.1,
        )

    @property
    def qmp(self) -> Qmp:
        """QMP of the guest's own QEMU, tunnelled through the host; made on first use."""
        if self._qmp is None:
            sock = self._host.tunnel("127.0.0.1", self.spec.qmp_port, seconds=10, on_end=self._qmp_ended)
            self._qmp = Qmp(sock, self.vitals, seconds=10)
        return self._qmp

    def watch(self) -> None:
        """From now on notice when its QEMU exits (seen as the end of the QMP connection)."""
        self.qmp.execute("query-status")

    @property
    def pid(self) -> int:
        """The process id of its QEMU, on the host."""
        if self._pid is None:
            self._pid = int(self._host.run(["cat", self.spec.pid_file], seconds=10).require().text)
        return self._pid

    def console_tail(self) -> str:
        """The last lines of its console; empty when the host does not answer either."""
        try:
            return self._host.run(["tail", "-n", "40", self.spec.console], seconds=5).text
        except (MachineError, DeadlineError) as error:
            return f"(no console: {error.message})"

    def check(self) -> None:
        """Raise if it is lost, with the last lines of its console.

        :raises MachineLostError: it is.
        """
        if self.vitals.reason is not None:
            raise MachineLostError(
                f"{self.vitals.name} is lost: {self.vitals.reason}\nits console ends with:\n{self.console_tail()}"
            )

    def console(self) -> str:
        """All that it said on its console."""
        return self._host.run(["cat", self.spec.console], seconds=10).require().text

    def boots(self) -> int:
        """How many times it has come up since its QEMU was started, by what it says on its console."""
        return int(self._host.run(["grep", "-c", UP, self.spec.console], seconds=10).text or 0)

    def wait_for_boot(self, number: int, deadline: Deadline) -> None:
        """Wait until it has come up so many times since its QEMU was started, by what it says on its console.

        :raises DeadlineError: it does not come up. :raises MachineLostError: its QEMU ended.
        """
        poll_until(
            lambda: self.boots() >= number,
            deadline,
            f"boot {number} of guest {self.spec.name}",
            check=self.check,
            explain=self.console_tail,
            interval=0.2,
        )

    def wait_for_end(self, deadline: Deadline) -> None:
        """Wait until its QEMU has ended; ``watch`` was called before.

        :raises DeadlineError: it runs on.
        """
        poll_until(
            lambda: self.vitals.reason is not None,
            deadline,
            f"the end of guest {self.spec.name}",
            check=lambda: None,
            explain=self.console_tail,
            interval=0.2,
        )

    def addresses(self, gpas: Sequence[int]) -> list[Address]:
        """Where guest-physical addresses lie: in its QEMU as that tells (HMP gpa2hva), on the host by its page tables.

        Not by HMP gpa2hpa: QEMU writes to the page before it looks, and dies of that on a private one.

        :raises MachineError: QEMU knows no memory there, or the page is not in memory.
        """
        hvas = [self._hva(gpa) for gpa in gpas]
        entries = self._info_ask("pagemap", *map(hex, hvas))["entries"]
        for gpa, entry in zip(gpas, entries, strict=True):
            if not entry & PAGEMAP_PRESENT or not entry & PAGEMAP_PFN:
                raise MachineError(f"the page at guest-physical {gpa:#x} is not in the host's memory: {entry:#x}")
        return [
            Address(gpa, hva, (entry & PAGEMAP_PFN) * PAGE + hva % PAGE)
            for gpa, hva, entry in zip(gpas, hvas, entries, strict=True)
        ]

    def frames(self, gpas: Sequence[int]) -> list[int | None]:
        """Physical addresses of pages in the host's memory; None for one that is not there.

        :param gpas: guest-physical addresses in one piece of its memory, which QEMU is asked about once.
        :raises MachineError: QEMU knows no memory there.
        """
        first = self._hva(gpas[0]) - gpas[0]
        hvas = [hex(first + gpa) for gpa in gpas]
        asked = (" ".join(["pagemap", *hvas[at : at + ASKED]]) for at in range(0, len(hvas), ASKED))
        entries = [entry for reply in self._info_ask_all(*asked) for entry in reply["entries"]]
        return [(entry & PAGEMAP_PFN) * PAGE if entry & PAGEMAP_PRESENT else None for entry in entries]

    def _hva(self, gpa: int) -> int:
        """Asked once for each page: QEMU's mapping of its guest's memory stays where it is."""
        page = gpa - gpa % PAGE
        if page not in self._hvas:
            self._hvas[page] = self._ask_monitor("gpa2hva", page)
        return self._hvas[page] + gpa % PAGE

    def known_of(self, hvas: Sequence[int]) -> tuple[list[str], str]:
        """What its host's kernel knows of its QEMU's addresses, and of its protection, now: sharing changes that.

        :returns: the mapping that holds each address, with its flags, of which ``kp`` means private memory of a
            protected guest; and what ``protection`` returns.
        :raises MachineError: no mapping holds it.
        """
        of_pages, of_guest = self._info_ask_all(" ".join(["mappings", *map(hex, hvas)]), "protection")
        found = of_pages["mappings"]
        for hva, (mapping, _) in zip(hvas, found, strict=True):
            if not mapping:
                raise MachineError(f"no mapping of /proc/{self.pid}/smaps holds {hva:#x}")
        return [f"/proc/{self.pid}/smaps: {mapping}; {flags}" for mapping, flags in found], str(of_guest["protection"])

    def flagged(self, flag: str) -> list[tuple[int, int]]:
        """All mappings of its QEMU that have a flag: first address of each, and the one after its last."""
        wanted = ["grep", "-E", "^[0-9a-f]+-[0-9a-f]+ |^VmFlags:", f"/proc/{self.pid}/smaps"]
        found: list[tuple[int, int]] = []
        held = (0, 0)
        for line in self._host.run(wanted, seconds=20).require().text.splitlines():
            first, dash, end = line.split(maxsplit=1)[0].partition("-")
            if dash:
                held = (int(first, 16), int(end, 16))
            elif flag in line.split()[1:]:
                found.append(held)
        return found

    def protection(self) -> str:
        """What its host's kernel tells of its protection (KVM's debugfs); empty if it tells nothing."""
        return str(self._info_ask("protection")["protection"])

    def exits(self) -> Exits:
        """How its QEMU's KVM_RUN has ended, and what KVM has emulated for it, since the host's start.

        :raises MachineError: it has not run yet.
        """
        return exits.parse(self._info_ask("exits"))

    def console_since(self, offset: int) -> tuple[int, str]:
        """How many bytes its console has, and what it says from there on."""
        return self._tail(self.spec.console, offset)

    def beaten(self) -> int:
        """How many bytes its heart has written to its host; more with each beat."""
        return self._tail(self.spec.beat, 0)[0]

    def _tail(self, path: str, offset: int) -> tuple[int, str]:
        told = self._info_ask("tail", path, str(offset))
        return int(told["size"]), str(told["text"])

    @property
    def stopped(self) -> bool:
        """Whether we have stopped it, so that nobody may expect it to move."""
        return self._qmp is not None and self._qmp.stopped

    @property
    def protected(self) -> bool:
        """Whether it opted in, as its own kernel says."""
        if self._protected is None:
            self._protected = bool(self._canary_ask("protected")["protected"])
        return self._protected

    def _info_ask(self, *words: str) -> dict[str, Any]:
        """Ask the host what its kernel knows of this QEMU's pages."""
        return self._info_ask_all(" ".join(words))[0]

    def _info_ask_all(self, *requests: str) -> list[dict[str, Any]]:
        return self._ask("page_info", self._host_session, [f"{HOST_PROGRAMS}/page_info", str(self.pid)], requests)

    def _ask(
        self, name: str, session: Callable[[], Ssh], argv: Sequence[str], requests: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Ask one of our line servers, which is started on first use; all that is asked at once goes one way together.

        :raises MachineError: it could not do what was asked.
        """
        if name not in self._talks:
            self._talks[name] = session().converse(argv, seconds=10)
        try:
            replies: list[dict[str, Any]] = list(map(json.loads, self._talks[name].ask(*requests, seconds=20)))
        except DeadlineError:
            # Its answer may still come, and would be taken for the next one's.
            self._talks.pop(name).close()
            raise
        for request, reply in zip(requests, replies, strict=True):
            if "error" in reply:
                what = ": ".join(str(reply[part]) for part in ("error", "errno") if part in reply)
                if self.spec.opts_in and what.startswith(REQUESTS) and "errno" in reply:
                    raise HarmError(f"guest {self.spec.name} cannot {what}")
                raise MachineError(f"{name} of guest {self.spec.name}, '{request.split(maxsplit=1)[0]}': {what}")
        return replies

    def _ask_monitor(self, command: str, gpa: int) -> int:
        said = self.qmp.monitor(f"{command} {gpa:#x}")
        found = re.search(r" is (0x[0-9a-f]+)$", said)
        if found is None:
            raise MachineError(f"{command} {gpa:#x} of guest {self.spec.name}: {said}")
        return int(found.group(1), 16)

    def plant(self, seed: bytes, *, again: bool = False) -> list[Planted]:
        """Have the guest make fresh random canaries, one page each, and tell where they are.

        :param seed: 32 to 512 random bytes, mixed into the guest's random number generator: after a restore its state
            is the snapshot's, and without this every restored guest would make the same canaries.
        :param again: in the pages where the last ones are, if there are any; else in other ones.
        """
        canaries = self._canary_ask(f"plant {seed.hex()}{' again' if again else ''}")["canaries"]
        return [
            Planted(c["kind"], c["set"], c["state"], address, made_of(key := bytes.fromhex(c["key"])), key)
            for c, address in zip(canaries, self.addresses([c["gpa"] for c in canaries]), strict=True)
        ]

    def read(self, planted: Sequence[Planted]) -> list[bytes]:
        """The pages of canaries as the guest itself sees them now.

        :raises MachineError: a page is no longer where it was, or no longer as private or shared as it was.
        """
        replies = self._canary_ask_all(*(f"read {one.kind} {one.set}" for one in planted))
        for one, reply in zip(planted, replies, strict=True):
            if reply["moved"] or reply["gpa"] != one.address.gpa:
                raise MachineError(f"the guest moved its {one.kind} canary, so the probes aimed at another page")
            if reply["state"] != one.state:
                raise MachineError(f"the guest's {one.kind} page was {one.state}, and is {reply['state']} now")
        return [_with(one.content, reply["changed"]) for one, reply in zip(planted, replies, strict=True)]

    def share(self, planted: Planted) -> str:
        """Share a canary's page with the host, its content with it; what it is then: shared, or plain as ever."""
        return str(self._canary_ask(f"share {planted.kind} {planted.set}")["state"])

    def take_back(self, planted: Planted) -> str:
        """Make a canary's page private again; what it is then: private, or plain as ever.

        :raises HarmError: the host refuses.
        """
        return str(self._canary_ask(f"unshare {planted.kind} {planted.set}")["state"])

    @contextlib.contextmanager
    def holding(self, planted: Planted, *, seconds: float) -> Iterator[Future[dict[str, Any]]]:
        """Have the guest's program keep the first 320 bytes of a user canary in registers meanwhile.

        The first 64 are in r8 to r15, the others in xmm0 to xmm15, and a breakpoint of its own watches the page.

        :returns: in the end: ``kept``, whether they stayed there; ``address``, where it has the page, and ``watched``,
            whether it could have the breakpoint.
        :param seconds: for which it does so, at the most; the guest's own time, which stands still while it is stopped.
        """
        with workers(1) as asker:
            held: Future[dict[str, Any]] = asker.submit(self._canary_ask, f"hold {planted.set} {round(seconds * 1000)}")
            yield held
            held.result()

    def _canary_ask(self, request: str) -> dict[str, Any]:
        return self._canary_ask_all(request)[0]

    def _canary_ask_all(self, *requests: str) -> list[dict[str, Any]]:
        return self._ask("canary", lambda: self.ssh, [f"{PROGRAMS}/canary"], requests)

    def checks(self, *argv: str, seconds: float = 30, cpu: int | None = None) -> list[dict[str, Any]]:
        """Run one of the guest's check programs; each line that it prints is a check with name, expected and got.

        :param cpu: the guest's processor that it must run on.
        """
        where = [] if cpu is None else ["taskset", f"{1 << cpu:x}"]
        done = self.ssh.run([*where, f"{PROGRAMS}/{argv[0]}", *argv[1:]], seconds=seconds).require()
        return [json.loads(line) for line in done.text.splitlines()]

    def close(self) -> None:
        """End the channels; the guest runs on."""
        channels = (*self._talks.values(), self._qmp, self._ssh)
        self._talks, self._qmp, self._ssh = {}, None, None
        self._protected = None  # another kernel may run there by the time that it is asked again
        for channel in channels:
            if channel is not None:
                channel.close()

    def _qmp_ended(self) -> None:
        if self._qmp is not None:  # else it was we who closed it
            self.vitals.lost("its QEMU ended")
