# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the counters of hosts and guests as claims end, and before a machine is ended, and puts down what was counted.

A host's memory is read from outside, by its QEMU; a guest's too, wherever the host has it: so a guest's own
protection is no obstacle, and nobody in host or guest takes part.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common import elf
from common.commands import output
from common.errors import KernelError, SealproofError
from host_setup.coverage import counters
from host_setup.coverage.counters import IMAGE, STAGE, Counts, Object
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE

BOOT = "boot"
"""Stands for a claim: what ran while host and guests booted, before the state was saved that claims start from."""
CLAIMS = "claims"
STRUCTURE = "__gcov_."  # gcc's name of what describes a function that counts, and behind it the function's


class Image:
    """A vmlinux: what counts there, and what else never changes.

    :raises KernelError: the kernel does not count.
    """

    def __init__(self, vmlinux: Path) -> None:
        lines = output(["nm", str(vmlinux)], stage=STAGE).decode().splitlines()
        words = (line.split() for line in lines if f" {STRUCTURE}" in line)
        structures = sorted(int(address, 16) for address, _, _ in words)
        if not structures:
            raise KernelError("this kernel does not count", stage=STAGE, hint="--layers coverage")
        self.read = Memory(_segments_of(vmlinux))
        self.objects = counters.layout(structures, self.read)
        self.witness = structures[0]
        """Address of something that has the same content in each machine that runs this kernel."""


def _segments_of(vmlinux: Path) -> dict[int, bytes]:
    """The segments of an executable, by their virtual address (elf(5), 64 bit)."""
    raw = vmlinux.read_bytes()
    segments = elf.segments(lambda at, size: raw[at : at + size])
    return {segment.virtual: raw[segment.offset : segment.offset + segment.in_file] for segment in segments}


class Memory:
    """What was read of a kernel's image: pieces, by their virtual address."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = pieces

    def __call__(self, address: int, size: int) -> bytes:
        """So many bytes from there on.

        :raises KernelError: they were not read.
        """
        for start, piece in self._pieces.items():
            if start <= address and address + size <= start + len(piece):
                return piece[address - start : address - start + size]
        raise KernelError(f"{size} bytes at {address:#x} were not read", stage=STAGE)


class Collector:
    """What was counted, claim by claim.

    :param functions: which functions are of interest: by object, their idents.
    :param folder: gets a folder ``claims/NAME`` of ``.gcda`` files for each claim.
    :param note: told what could not be read.
    """

    def __init__(
        self, image: Image, functions: Mapping[str, Sequence[int]], folder: Path, note: Callable[[str], None]
    ) -> None:
        self._image = image
        self._folder = folder
        self._note = note
        self._objects = tuple(
            _only(object_, functions.get(object_.name, ())) for object_ in image.objects if object_.name in functions
        )
        self._pages = _pages([(image.witness, 8), *_spans(self._objects)])
        self._hosts: list[EmulatedHost] = []
        self._last: dict[tuple[int, str], Counts] = {}
        self._booted: dict[str, Counts] = {}
        self._pending: Counts = {}
        self._running = False

    def watch(self, hosts: EmulatedHosts) -> None:
        """Watch each host that is started from now on."""
        hosts.on_start = self._begins

    def begin(self) -> None:
        """What is counted from now on, a claim has caused."""
        self._running, self._pending = True, {}

    def end(self, claim: str) -> None:
        """A claim has ended: put down what it caused."""
        for host in self._hosts:
            self._take(host)
        self._write(claim, self._pending)
        self._running, self._pending = False, {}

    # --- inside ---

    def _begins(self, host: EmulatedHost) -> None:
        self._hosts.append(host)
        host.before_end = lambda guest: self._ends(host, guest)
        if host.started == "cold" and self._running:
            return  # a claim had it booted: all that it has counted is the claim's
        at_boot: Counts = {}
        for who, guest in self._machines(host):
            if who not in self._booted or guest is None:
                if (counted := self._read(host, who, guest)) is None:
                    continue
                self._booted[who] = counted
            counters.add(at_boot, self._booted[who])
            self._last[id(host), who] = self._booted[who]
        if not (self._folder / CLAIMS / BOOT).exists():
            self._write(BOOT, {key: raw for key, raw in at_boot.items() if any(raw)})

    def _ends(self, host: EmulatedHost, guest: Guest | None) -> None:
        if guest is not None:
            self._take_machine(host, guest.spec.name, guest)
            self._last.pop((id(host), guest.spec.name), None)
            return
        self._take(host)
        if host in self._hosts:
            self._hosts.remove(host)
        self._last = {key: counted for key, counted in self._last.items() if key[0] != id(host)}

    @staticmethod
    def _machines(host: EmulatedHost) -> list[tuple[str, Guest | None]]:
        if host.lost is not None:
            return [("host", None)]
        return [("host", None), *{guest.spec.name: guest for guest in (*host.guests, *host.all_guests)}.items()]

    def _take(self, host: EmulatedHost) -> None:
        for who, guest in self._machines(host):
            self._take_machine(host, who, guest)

    def _take_machine(self, host: EmulatedHost, who: str, guest: Guest | None) -> None:
        now = self._read(host, who, guest)
        if now is not None:
            counters.add(self._pending, counters.since(now, self._last.get((id(host), who), {})))
            self._last[id(host), who] = now

    def _read(self, host: EmulatedHost, who: str, guest: Guest | None) -> Counts | None:
        """What a machine has counted; None if it cannot be read any more."""
        if host.qemu.has_ended:
            return None
        try:
            memory = self._of_host(host) if guest is None else self._of_guest(host, guest)
            if memory(self._image.witness, 8) != self._image.read(self._image.witness, 8):
                raise KernelError("another kernel runs there", stage=STAGE)
            return counters.counts(self._objects, memory)
        except SealproofError as error:
            self._note(f"{who}: {error.message}")
            return None

    def _of_host(self, host: EmulatedHost) -> Memory:
        start, end = self._pages[0], self._pages[-1] + PAGE
        return Memory({start: physical(host, start - IMAGE, end - start)})

    def _of_guest(self, host: EmulatedHost, guest: Guest) -> Memory:
        """The pages with counters; the guest's kernel is the host's, so they are where they are there."""
        frames = dict(zip(self._pages, guest.memory.frames([page - IMAGE for page in self._pages]), strict=True))
        pages: dict[int, bytes] = {}
        for first, number in _runs(list(frames.items())):
            frame = frames[first]
            if frame is None:
                raise KernelError(f"{guest.spec.name} has no page at {first - IMAGE:#x}", stage=STAGE)
            pages[first] = physical(host, frame, number * PAGE)
        return Memory(_join_pieces(pages))

    def _write(self, claim: str, counted: Counts) -> None:
        folder = self._folder / CLAIMS / claim
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier run has counted
        counters.write(folder, self._objects, counted)


def _only(object_: Object, idents: Sequence[int]) -> Object:
    """An object, of which some functions alone are of interest."""
    return replace(object_, functions=tuple(function for function in object_.functions if function.ident in idents))


def _spans(objects: Sequence[Object]) -> list[tuple[int, int]]:
    """Address and size of all counters."""
    return [(function.address, function.size) for object_ in objects for function in object_.functions]


def _pages(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Addresses of the pages that pieces of memory lie on, in order."""
    return sorted({page for at, size in spans for page in range(at - at % PAGE, at + size, PAGE)})


def _runs(pages: Sequence[tuple[int, int | None]]) -> list[tuple[int, int]]:
    """Pages that follow each other in both memories, as one: the first one's virtual address, and how many.

    :param pages: virtual address, and physical address on the host.
    """
    spans: list[list[int]] = []
    last: tuple[int, int | None] | None = None
    for page, frame in pages:
        if last is not None and frame is not None and last == (page - PAGE, frame - PAGE):
            spans[-1][1] += 1
        else:
            spans.append([page, 1])
        last = (page, frame)
    return [(first, number) for first, number in spans]


def _join_pieces(pieces: Mapping[int, bytes]) -> dict[int, bytes]:
    """Pieces that follow each other, as one."""
    joined: dict[int, bytes] = {}
    start, end = 0, -1
    for at, piece in sorted(pieces.items()):
        if at == end:
            joined[start] += piece
        else:
            start, joined[at] = at, piece
        end = at + len(piece)
    return joined


def physical(host: EmulatedHost, address: int, size: int) -> bytes:
    """Physical memory of a host, as its QEMU has it.

    :raises ChannelError: QEMU does not tell.
    """
    with tempfile.TemporaryDirectory(prefix="sealproof-") as folder:
        file = Path(folder) / "memory"
        host.qemu.qmp.execute("pmemsave", {"val": address, "size": size, "filename": str(file)})
        return file.read_bytes()
