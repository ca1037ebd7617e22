# SPDX-License-Identifier: GPL-2.0-or-later
"""A real machine in the hands of one run: leased -> provisioned -> booting -> booted -> restored, and back from each.

What brings the machine back is on the machine (keeper.sh); here is who orders it to, who looks whether it came, and who
has the power cut when it does not.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from common.errors import (
    AccessError,
    ChannelError,
    DeadlineError,
    KernelError,
    MachineError,
    SealproofError,
    SetupError,
)
from common.paths import user_name
from common.processes import spawn
from common.progress import Terminal
from common.waiting import Deadline, poll_until
from guest_images.programs import Programs
from host_setup.inventory import NetConsole, Remote
from host_setup.kernel.build import BuiltKernel
from host_setup.kernel.notes import build_id
from host_setup.remote.console import ConsoleLog
from host_setup.remote.control import KEEPER_DIR, Control
from host_setup.remote.fitness import obstacles

REACH = 60.0  # seconds until a machine that is up must answer
POWER = 120.0  # seconds that the power command gets
BEATS = 6  # heartbeats in the time of a lease
SLOW_COPY = 300.0  # seconds
TAKEN, EXPIRED, NOT_OURS = 3, 4, 5  # exit status of the keeper
# What makes a kernel that hangs or dies make way for the machine's own, and what the emulated host has, too.
WORDS = (
    "panic=10 oops=panic softlockup_panic=1 nokaslr kvm.force_emulation_prefix=1 numa=fake=2 log_buf_len=8M"
    " ignore_loglevel"
)


class LeaseState(StrEnum):
    """Where a machine is. BROKEN: it was not brought back; what to do is in the error."""

    FREE = "free"
    LEASED = "leased"
    PROVISIONED = "provisioned"
    BOOTING = "booting"
    BOOTED = "booted"
    RESTORED = "restored"
    BROKEN = "broken"


class TakenError(MachineError):
    """Another run has the machine."""

    stage = "lease"


class Leased:
    """One machine, from its lease to its return.

    :param name: in the inventory. :param folder: where its console goes. :param note: told what went another way.
    :param on_state: told each state that is reached; for tests.
    :raises TakenError: another run has it. :raises MachineError: it cannot be had; nothing of ours is on it, or, if the
        connection broke just then, it gives itself back when the lease is over.
    """

    def __init__(
        self,
        name: str,
        machine: Remote,
        folder: Path,
        terminal: Terminal,
        *,
        note: Callable[[str], None],
        on_state: Callable[[LeaseState], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.machine = machine
        self.control = Control(name, machine)
        self.state = LeaseState.FREE
        self.command_line = ""
        self.facts: dict[str, str] = {}
        self._terminal = terminal
        self._note = note
        self._on_state = on_state
        self._token = secrets.token_hex(16)
        self._lost_lease = ""
        self._over = threading.Event()
        self._kernel: BuiltKernel | None = None
        self.console = ConsoleLog(machine.console, folder / "console.log")
        try:
            with terminal.step(f"lease of {name}"):
                self._lease()
        except BaseException:
            self.restore()
            self.control.close()
            self.console.close()
            raise

    # --- leased ---

    def _lease(self) -> None:
        self.control.connect(Deadline(REACH))
        self.facts = self.control.facts()
        self._check_facts()
        holder = f"{user_name()}@{socket.gethostname()}"
        self.before = self._manifest()
        order = ("lease", self._token, holder, str(self.machine.lease.seconds))
        done = self.control.keeper(*order, seconds=REACH)
        if done.status == EXPIRED:
            self._note(f"{self.name}: {_complaint(done.stderr)}; that run is dead, and its changes are undone first")
            self._bring_back("expired")
            self.before = self._manifest()
            done = self.control.keeper(*order, seconds=REACH)
        if done.status == TAKEN:
            raise TakenError(
                f"{self.name}: {_complaint(done.stderr)}",
                hint="wait for that run to end; if it died, the machine returns when the lease expires",
            )
        done.require()
        self._reach(LeaseState.LEASED)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        self._listen()

    def _listen(self) -> None:
        """See to it that its console is heard. Only who has the machine may take its console from another one."""
        self.console.renew(lambda words: self._note(f"{self.name}: {words}"))

    def _check_facts(self) -> None:
        facts = self.facts
        if facts.get("root") != "yes":
            raise AccessError(
                f"{self.name}: {self.machine.user} is not root there, and has no sudo without a password",
                hint="log in as root, or add a line for that user to /etc/sudoers.d",
            )
        if not facts.get("systemd"):
            raise SetupError(
                f"{self.name} does not run systemd, which a run needs to bring the machine back",
                stage="machine",
                hint="use another machine; 'make doctor INVENTORY=...' tries all of them",
            )
        if facts.get("machine") != "x86_64":
            raise SetupError(
                f"{self.name} is a machine of kind {facts.get('machine')}, not x86_64",
                stage="machine",
                hint="use another machine; 'make doctor INVENTORY=...' tries all of them",
            )

        first = next(obstacles(self.machine, facts, words_to_add(self.machine)), None)
        if first is not None:
            raise SetupError(
                f"{self.name} cannot be used with a boot by {self.machine.boot}: {first.problem}",
                stage="machine",
                hint=first.advice,
            )

    def _beat(self) -> None:
        """Tell the machine that this run lives."""
        control, lease = Control(self.name, self.machine), self.machine.lease.seconds
        try:
            while not self._over.wait(lease / BEATS):
                try:
                    # A session whose machine has rebooted may never answer: wait no longer than a lease can bear.
                    done = control.run(["sh", f"{KEEPER_DIR}/keeper", "beat", self._token], seconds=2 * lease / BEATS)
                except SealproofError:
                    continue  # it boots, or the network is gone: the next one
                if done.status == NOT_OURS:
                    self._lost_lease = _complaint(done.stderr)
                    return
        finally:
            control.close()

    # --- provisioned ---

    def provision(self, kernel: BuiltKernel, programs: Programs) -> None:
        """Copy the kernel, and what loads it, beside what is there.

        :raises MachineError: it cannot be copied.
        """
        self._kernel = kernel
        self._check_lease()
        with self._terminal.step(f"kernel for {self.name}"):
            self.control.write_file(
                f"{KEEPER_DIR}/kexec_into", programs.read("kexec_into"), seconds=SLOW_COPY, mode=0o700
            )
            self.control.write_file(f"{KEEPER_DIR}/kernel", kernel.image.read_bytes(), seconds=SLOW_COPY)
        self._reach(LeaseState.PROVISIONED)

    # --- booted ---

    def boot(self, words: str = "") -> None:
        """Boot the kernel once, and see whether it is the one that runs; also from that kernel into itself again.

        :param words: added to its command line.
        :raises KernelError: the machine came up with another one, or not at all: it hung, or died.
        """
        if self._kernel is None:
            raise RuntimeError("call provision() before boot()")
        self._check_lease()
        self._listen()
        more = f"{words_to_add(self.machine)} {words}".strip()
        with self._terminal.step(f"boot of {self.name} by {self.machine.boot}"):
            before = self.control.boot_id()
            self.control.keeper("boot", self._token, self.machine.boot, more, seconds=REACH).require()
            self._reach(LeaseState.BOOTING)
            self._wait_for_boot(before, f"to boot Linux {self._kernel.release} by {self.machine.boot}")
            facts = self.control.facts()
            running = build_id(bytes.fromhex(facts["notes"]))
            self.command_line = facts["kernel_line"]
        if running != self._kernel.build_id:
            raise KernelError(
                f"{self.name} runs a kernel with build ID {running or 'unknown'}, not {self._kernel.build_id}: "
                f"it is back on its own, or never left it\n{self.console.tail()}",
                stage="boot",
                hint="did the kernel die early? configure a console for the machine in the inventory, and look there",
                artefact=self.console.path,
            )
        self._reach(LeaseState.BOOTED)

    def recover(self, words: str = "") -> None:
        """Boot the kernel once more, for instance after it was lost, or is not well.

        :param words: added to its command line.
        :raises MachineError: it cannot be booted again.
        """
        patience = self.machine.limits.boot
        try:
            self.control.connect(Deadline(patience), refusals_pass=True)
        except DeadlineError:
            if self.machine.power is None:
                raise
            self._note(f"{self.name} does not answer: its power is cut")
            self._cut_power()
            self.control.connect(Deadline(patience), refusals_pass=True)
        self.boot(words)

    def _wait_for_boot(self, before: str, purpose: str) -> None:
        """Wait until another boot than ``before`` answers.

        :raises KernelError: none does.
        """

        def another() -> bool:
            if self.control.boot_id() == before:
                raise ChannelError("it still runs the kernel from before")
            return True

        try:
            poll_until(
                another,
                Deadline(self.machine.limits.boot),
                f"{self.name} {purpose}",
                not_yet=(ChannelError, DeadlineError, AccessError),
                interval=1.0,
            )
        except DeadlineError as error:
            raise KernelError(
                f"{error.message}\n{self.console.tail()}",
                stage="boot",
                hint="it hangs, or has no network: check its console",
                artefact=self.console.path,
            ) from error

    # --- restored ---

    def restore(self) -> None:
        """Put the machine back as it was: its own kernel, nothing of ours. Does nothing the second time.

        :raises MachineError: it did not come back; says what is left to do by hand.
        """
        if self.state in (LeaseState.FREE, LeaseState.RESTORED, LeaseState.BROKEN):
            return
        self._over.set()  # from here on silence is right: what we do not manage the machine does
        try:
            with self._terminal.step(f"way back of {self.name}"):
                self._bring_back(self._token)
                if not self.control.facts()["holder"]:
                    self._compare()
        except BaseException:
            self._reach(LeaseState.BROKEN)
            raise
        finally:
            self.control.close()
            self.console.close()
        self._reach(LeaseState.RESTORED)

    def _bring_back(self, token: str) -> None:
        patience: float = self.machine.limits.boot
        if self.state is LeaseState.BOOTING and self.machine.power is not None:
            patience = min(patience, REACH)  # it has had its time: it hangs, or is up and answers at once
        try:
            self._order_back(token, Deadline(patience))
        except (DeadlineError, MachineError) as error:
            if isinstance(error, AccessError) or self.machine.power is None:
                raise MachineError(
                    f"{self.name} did not come back: {error.message}\n{self.console.tail()}",
                    stage="restore",
                    hint="switch it off and on: it then boots its own kernel and removes the remains of the run. "
                    "A power command in the inventory does that for you",
                    artefact=self.console.path,
                ) from error
            self._note(f"{self.name} does not answer ({error.message.splitlines()[0]}): its power is cut")
            self._cut_power()
            self._order_back(token, Deadline(self.machine.limits.boot))

    def _order_back(self, token: str, deadline: Deadline) -> None:
        """Order the machine back until it runs its own kernel and nothing of ours is left.

        :raises AccessError: all the time it answers, and refuses us.
        """

        def back() -> bool:
            done = self.control.keeper("restore", token, seconds=min(REACH, deadline.seconds_left() or 1))
            # Not ours: it has gone back already, by itself; somebody else may have it by now.
            if done.status == NOT_OURS or (done.status == 0 and "restored" in done.text):
                return True
            raise ChannelError(_complaint(done.stderr) or done.text)

        try:
            poll_until(
                back,
                deadline,
                f"{self.name} to come back",
                not_yet=(ChannelError, DeadlineError, AccessError),  # one that goes down or comes up refuses everybody
                interval=2.0,
            )
        except DeadlineError as error:
            if isinstance(error.__cause__, AccessError):
                raise error.__cause__ from None
            raise

    def _cut_power(self) -> None:
        power = self.machine.power
        if power is None:
            raise RuntimeError("no power command")
        process = spawn(power.cycle, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)  # the user's own
        try:
            output, _ = process.communicate(timeout=POWER)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(
                f"waited {POWER:g} s for the power command of {self.name}",
                hint=f"try it by hand: see [machine.{self.name}.power]",
            ) from error
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise MachineError(
                f"the power command of {self.name} failed: {_complaint(output)}",
                hint=f"see [machine.{self.name}.power]",
            )
        self.control.close()

    def _manifest(self) -> str:
        return self.control.keeper("manifest", seconds=SLOW_COPY).require().text

    def _compare(self) -> None:
        """See whether all is as it was."""
        after = self._manifest()
        changed = [f"- {line}" for line in self.before.splitlines() if line not in after.splitlines()]
        changed += [f"+ {line}" for line in after.splitlines() if line not in self.before.splitlines()]
        if changed:
            raise MachineError(
                f"{self.name} came back, but not as it was:\n" + "\n".join(changed),
                stage="restore",
                hint="somebody else changed it meanwhile, or this is a bug in sealproof: please compare by hand",
            )

    # --- inside ---

    def _check_lease(self) -> None:
        if self._lost_lease:
            raise TakenError(
                f"{self.name}: {self._lost_lease}", hint="the machine has returned to its own kernel: run again"
            )

    def _reach(self, state: LeaseState) -> None:
        self.state = state
        self._on_state(state)


@contextmanager
def bring_back_on_error(leased: Leased) -> Iterator[Leased]:
    """Bring a machine back when something fails, whatever it is; else it goes on."""
    try:
        yield leased
    except BaseException:
        leased.restore()
        raise


def words_to_add(machine: Remote) -> str:
    """What each boot adds to the command line of a machine's own kernel."""
    console = machine.console
    own = [console.parameter] if isinstance(console, NetConsole) else []
    return " ".join(word for word in (WORDS, *own, machine.command_line) if word)


def _complaint(words: bytes) -> str:
    return words.decode(errors="replace").strip().removeprefix("keeper: ")
