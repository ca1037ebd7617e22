# SPDX-License-Identifier: GPL-2.0-or-later
"""``make test-hosts``: the whole way of a real machine, and all that can go wrong on it, on an emulated stand-in.

After each case the stand-in must run its own kernel again, with no file of ours and each of its own as it was. A line a
case; exit status 0 if each went as it must.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from common.errors import AccessError, KernelError, MachineError, SealproofError, UserInputError
from common.paths import PROJECT, cache_root
from common.processes import spawn
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys, keys
from guest_images.programs import Programs
from guest_images.rootfs import rootfs
from host_setup.inventory import Boot, Remote
from host_setup.kernel import series
from host_setup.kernel.build import Kernel
from host_setup.provision import Settings, kernel_for_machines, real_machine
from host_setup.remote.control import PLACE, Control
from host_setup.remote.leased import Leased, State, TakenError, brought_back
from host_setup.standin.hanging import hanging
from host_setup.standin.machine import BOOT, Standin, copy_disk, installed_disk, running
from host_setup.standin.wire import Wire

CLAIMS = "read_private_page_by_process_vm_readv or write_private_page_by_proc_pid_mem or lock_cmpxchg or virtio_disk"
NOT_PROVEN = 2  # pytest's exit status where some claims were chosen
LEASE = 30  # seconds, in the cases in which it runs out
HANG = 90  # seconds after which a kernel that says nothing is given up; the stand-in boots in a third of it
WHOLE_WAY = 1200.0  # seconds
PANIC = "rdinit=/none root=/none"  # the kernel finds no root file system, and panics
# All files of the machine but what every boot writes: logs, leases, seeds, caches.
_FILES = (
    r"find / -xdev \( -path /var/log -o -path /tmp -o -path /var/tmp -o -path /var/lib/systemd \) -prune"
    r" -o -type f -printf '%p %s\n' -o -printf '%p %y\n' | sort"
)


@dataclass(frozen=True, slots=True)
class Result:
    """One case. ``wrong``: what did not go as it must; empty if all did."""

    name: str
    seconds: float
    said: str
    wrong: str = ""


class Bench:
    """What the cases work with: a running stand-in, a kernel, and a way to look at the machine behind a run's back."""

    def __init__(self, standin: Standin, kernel: Kernel, programs: Programs, own_keys: Keys, folder: Path) -> None:
        self.standin = standin
        self.kernel = kernel
        self.programs = programs
        self.keys = own_keys
        self.folder = folder
        self.terminal = Terminal()
        self._behind = Control("the stand-in", standin.entry())
        self.pristine = self.look()

    def look(self) -> str:
        """What the machine is now: its kernel, and all its files."""
        self._behind.connect(Deadline(BOOT))
        files = self._behind.run(["sh", "-c", _FILES], seconds=120).require().text
        return files + "\n" + self._behind.keeper("manifest", seconds=120).require().text

    def run(self, *argv: str, seconds: float = 60) -> str:
        """Run a command on the machine, behind the run's back."""
        return self._behind.run(argv, seconds=seconds).require().text

    def wait_until_gone(self) -> None:
        """Wait until the machine has given itself back.

        :raises DeadlineError: it does not.
        """

        def gone() -> bool:
            try:
                return self._behind.run(["test", "-e", PLACE], seconds=20).status == 1
            except SealproofError:
                return False

        poll_until(gone, Deadline(LEASE + 2 * BOOT), "the stand-in to give itself back", interval=1.0)

    def lease(self, entry: Remote, on_state: Callable[[State], None] = lambda _: None) -> Leased:
        """Lease it as a run does."""
        return Leased("standin", entry, self.folder, self.terminal, note=warnings.warn, on_state=on_state)

    def close(self) -> None:
        """Look no more."""
        self._behind.close()


# --- the whole way ----------------------------------------------------------------------------------------------------


def _whole_way(bench: Bench, boot: Boot, user: str) -> str:
    inventory = bench.folder / f"{boot}.toml"
    entry = bench.standin.entry(boot=boot, user=user)
    inventory.write_text(toml(entry), encoding="utf-8")
    reports = bench.folder / f"reports-{boot}"
    argv = [sys.executable, "-m", "pytest", "tests_e2e", "-q", "-k", CLAIMS, f"--inventory={inventory}"]
    argv += [f"--host=ssh://{entry.address}", f"--reports={reports}"]
    process = spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        out, _ = process.communicate(timeout=WHOLE_WAY)
    finally:
        process.kill()
        process.wait()
    said = out.decode(errors="replace")
    (bench.folder / f"{boot}.log").write_text(said, encoding="utf-8")
    report = next(reports.glob("*/signoff.json"), None)
    if report is None or process.returncode != NOT_PROVEN:
        raise MachineError(f"pytest ended with status {process.returncode}:\n{said[-2000:]}")
    return judged(json.loads(report.read_text(encoding="utf-8")))


def judged(report: dict[str, object]) -> str:
    """What a report says of the claims that were run.

    :raises MachineError: one of them is not PASS, or none was run.
    """
    claims = report["claims"]
    if not isinstance(claims, list):
        raise MachineError("a report without claims")
    run = [claim for claim in claims if claim["verdict"] != "MISS"]
    bad = [f"{claim['id']}: {claim['verdict']}" for claim in run if claim["verdict"] != "PASS"]
    if bad or not run:
        raise MachineError("; ".join(bad) or "no claim was run")
    return f"{len(run)} claims PASS"


def by_kexec(bench: Bench) -> str:
    """the whole way, by kexec, as root"""
    return _whole_way(bench, Boot.KEXEC, "root")


def by_grub(bench: Bench) -> str:
    """the whole way, by an entry of GRUB, with sudo"""
    return _whole_way(bench, Boot.GRUB, "lab")


# --- kernels that do not come up --------------------------------------------------------------------------------------


def _does_not_boot(bench: Bench, kernel: Kernel, boot: Boot, **more: Any) -> str:
    leased = bench.lease(bench.standin.entry(boot=boot, **more))
    with expected(KernelError) as error, brought_back(leased):
        leased.provision(kernel, bench.programs)
        leased.boot()
    return error[0].splitlines()[0]


def _hangs(bench: Bench, boot: Boot) -> str:
    image = bench.folder / "hanging"
    image.write_bytes(hanging(bench.kernel.image.read_bytes()))
    return _does_not_boot(bench, replace(bench.kernel, image=image), boot, limits={"boot": HANG})


def hangs_by_kexec(bench: Bench) -> str:
    """a kernel that hangs, by kexec: its power is cut"""
    return _hangs(bench, Boot.KEXEC)


def hangs_by_grub(bench: Bench) -> str:
    """a kernel that hangs, by GRUB: its power is cut"""
    return _hangs(bench, Boot.GRUB)


def panics_by_kexec(bench: Bench) -> str:
    """a kernel that panics, by kexec"""
    return _does_not_boot(bench, bench.kernel, Boot.KEXEC, command_line=PANIC)


def panics_by_grub(bench: Bench) -> str:
    """a kernel that panics, by GRUB"""
    return _does_not_boot(bench, bench.kernel, Boot.GRUB, command_line=PANIC)


# --- nobody asks it back ----------------------------------------------------------------------------------------------


def _cut_at(bench: Bench, when: State) -> str:
    wire = Wire(bench.standin.port)

    def on_state(state: State) -> None:
        if state is when:
            wire.cut()

    patience = BOOT if when is State.BOOTED else LEASE
    entry = bench.standin.entry(
        port=wire.port, power=None, lease={"seconds": LEASE}, limits={"boot": patience, "memory": 1024}
    )
    try:
        with expected(MachineError) as error:
            leased = bench.lease(entry, on_state)
            leased.machine = entry.model_copy(update={"limits": entry.limits.model_copy(update={"boot": 10})})
            with brought_back(leased):
                leased.provision(bench.kernel, bench.programs)
                leased.machine = entry
                leased.boot()
                leased.machine = entry.model_copy(update={"limits": entry.limits.model_copy(update={"boot": 10})})
                leased.control.run(["true"], seconds=10)
    finally:
        wire.close()
    bench.wait_until_gone()
    return f"{error[0].splitlines()[0]}; the machine gave itself back"


def cut_when_leased(bench: Bench) -> str:
    """the connection is cut once it is leased"""
    return _cut_at(bench, State.LEASED)


def cut_when_provisioned(bench: Bench) -> str:
    """the connection is cut once the kernel is copied"""
    return _cut_at(bench, State.PROVISIONED)


def cut_when_booted(bench: Bench) -> str:
    """the connection is cut once the kernel runs"""
    return _cut_at(bench, State.BOOTED)


def killed(bench: Bench) -> str:
    """the run is killed with SIGKILL once the kernel runs"""
    entry = bench.standin.entry(lease={"seconds": LEASE})
    inventory = bench.folder / "killed.toml"
    inventory.write_text(toml(entry), encoding="utf-8")
    argv = [sys.executable, "-m", "host_setup.standin", "--die-when", State.BOOTED, "--inventory", str(inventory)]
    process = spawn(argv, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=WHOLE_WAY)
    finally:
        process.kill()
        process.wait()
    if process.returncode != -signal.SIGKILL:
        raise MachineError(f"the run ended by itself: {said.decode(errors='replace')}")
    bench.wait_until_gone()
    return "the machine gave itself back"


def die_when(state: State, inventory: Path) -> int:
    """Begin a run, and kill it with SIGKILL when the machine is in a state; what ``killed`` starts."""
    store, terminal = Store(cache_root()), Terminal()
    found = real_machine(Settings(host="standin", inventory=inventory))
    if found is None:
        raise UserInputError(f"no machine standin in {inventory}")
    kernel, programs = kernel_for_machines(Settings(), store, terminal)

    def on_state(reached: State) -> None:
        if reached is state:
            os.kill(os.getpid(), signal.SIGKILL)

    leased = Leased(*found, inventory.parent, terminal, note=warnings.warn, on_state=on_state)
    with brought_back(leased):
        leased.provision(kernel, programs)
        leased.boot()
    return 0


# --- it cannot begin --------------------------------------------------------------------------------------------------


FILLER = "/var/tmp/filler"  # noqa: S108  on the stand-in


def _fill(bench: Bench) -> None:
    """Fill its disk to the last block, root's own share included."""
    fill = f"cat /dev/zero > {FILLER}; cat /dev/zero > {FILLER}.2; sync; true"
    bench.run("sh", "-c", f"({fill}) 2> /dev/null", seconds=600)


def _empty(bench: Bench) -> None:
    bench.run("rm", "-f", FILLER, f"{FILLER}.2", seconds=120)


def disk_full(bench: Bench) -> str:
    """its disk is full"""
    _fill(bench)
    try:
        with expected(MachineError) as error:
            leased = bench.lease(bench.standin.entry())
            leased.restore()  # it must not come this far
    finally:
        _empty(bench)
    return error[0].splitlines()[0]


def fills_up(bench: Bench) -> str:
    """its disk fills up once it is leased"""
    leased = bench.lease(bench.standin.entry())
    try:
        with expected(MachineError) as error, brought_back(leased):
            _fill(bench)
            leased.provision(bench.kernel, bench.programs)
    finally:
        _empty(bench)
    return error[0].splitlines()[0]


def wrong_host_key(bench: Bench) -> str:
    """it answers with another host key than the inventory's"""
    with expected(AccessError) as error:
        bench.lease(bench.standin.entry(host_key=bench.keys.public("guest")))
    return error[0].splitlines()[0]


def wrong_key(bench: Bench) -> str:
    """it does not know our key"""
    with expected(AccessError) as error:
        bench.lease(bench.standin.entry(key=str(bench.keys.folder / "guest")))
    return error[0].splitlines()[0]


def lease_taken(bench: Bench) -> str:
    """another run has it"""
    first = bench.lease(bench.standin.entry())
    with brought_back(first), expected(TakenError) as error:
        bench.lease(bench.standin.entry())
    first.restore()
    return error[0].splitlines()[0]


def not_expendable(bench: Bench) -> str:
    """it is not in the inventory as expendable"""
    file = bench.folder / "precious.toml"
    file.write_text(toml(bench.standin.entry(expendable=False)), encoding="utf-8")
    with expected(UserInputError) as error:
        real_machine(Settings(host="standin", inventory=file))
    return error[0].splitlines()[0]


CASES: tuple[Callable[[Bench], str], ...] = (
    by_kexec,
    by_grub,
    hangs_by_kexec,
    hangs_by_grub,
    panics_by_kexec,
    panics_by_grub,
    cut_when_leased,
    cut_when_provisioned,
    cut_when_booted,
    killed,
    disk_full,
    fills_up,
    wrong_host_key,
    wrong_key,
    lease_taken,
    not_expendable,
)


@contextmanager
def expected(kind: type[SealproofError]) -> Iterator[list[str]]:
    """What is done inside must fail so; yields a list that its message comes into.

    :raises MachineError: it does not fail.
    """
    said: list[str] = []
    try:
        yield said
    except kind as error:
        said.append(error.message)
    else:
        raise MachineError(f"no {kind.__name__}: all went well, and must not")


def toml(entry: Remote) -> str:
    """An inventory with one machine, ``standin``."""
    lines = ["[machine.standin]"]
    for name, value in entry.model_dump(mode="json", exclude_none=True).items():
        lines.append(f"{name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


def try_case(bench: Bench, case: Callable[[Bench], str]) -> Result:
    """Run one case, then see whether the machine is as it was."""
    begun = time.monotonic()
    name = re.sub(r"\s+", " ", (case.__doc__ or case.__name__).strip())
    said, wrong = "", ""
    try:
        said = case(bench)
    except (SealproofError, pydantic.ValidationError, OSError, subprocess.TimeoutExpired) as error:
        wrong = str(error)
    try:
        after = bench.look()
    except SealproofError as error:
        wrong = f"{wrong}\nand the machine does not answer: {error}".strip()
    else:
        differ = sorted(set(bench.pristine.splitlines()) ^ set(after.splitlines()))
        if differ:
            wrong = f"{wrong}\nand the machine is not as it was: {'; '.join(differ[:20])}".strip()
    return Result(name, time.monotonic() - begun, said, wrong)


def line(result: Result) -> str:
    """One line of the table."""
    word = "FAIL" if result.wrong else "PASS"
    return f"{word}  {result.name:<58} {result.seconds:6.1f} s  {result.wrong or result.said}"


def main(argv: list[str]) -> int:
    """Run the cases. Exit status 0 if each went as it must, else 1."""
    parser = argparse.ArgumentParser(prog="make test-hosts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-k", default="", metavar="WORD", help="only the cases whose name has that word in it")
    parser.add_argument("--die-when", type=State, help=argparse.SUPPRESS)
    parser.add_argument("--inventory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.die_when is not None:
        return die_when(options.die_when, options.inventory)
    store, terminal = Store(cache_root()), Terminal()
    own_keys = keys(store)
    kernel, programs = kernel_for_machines(Settings(series=series.DEFAULT), store, terminal)
    folder = Path(tempfile.mkdtemp(prefix="sealproof-hosts-"))  # stays: the consoles are in it
    disk = folder / "disk"
    copy_disk(installed_disk(store, own_keys, terminal, folder), disk)
    results = []
    with running(disk, rootfs(store, terminal), own_keys, folder) as standin:
        with terminal.step("boot of the stand-in, by its own boot loader", expected=40):
            standin.wait_until_up()
        bench = Bench(standin, kernel, programs, own_keys, folder)
        for case in CASES:
            if options.k in case.__name__:
                results.append(try_case(bench, case))
                print(line(results[-1]), flush=True)  # noqa: T201
        bench.close()
    disk.unlink()
    failed = [result for result in results if result.wrong]
    print(f"\n{len(results) - len(failed)} of {len(results)} cases went as they must; logs: {folder}")  # noqa: T201
    return 1 if failed or not results else 0


if __name__ == "__main__":
    os.chdir(PROJECT)
    end_with(main)
