# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU of this machine: started, watched on its console and its exit, spoken to by QMP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from common.waiting import Deadline, poll_until
from host_setup.channels.qmp import Qmp
from host_setup.channels.vitals import Vitals
from host_setup.emulated.emulator import Emulator
from host_setup.hosts.timeline import TRANSCRIPT


class Qemu(Emulator):
    """A running QEMU whose serial console, QMP and heartbeat are ours.

    :param argv: everything but the console, QMP and heartbeat devices, which are added here.
    :param folder: where ``console.log``, ``console.times``, ``qemu.log`` and ``qmp.jsonl`` go.
    :param on_beat: called, from a thread, with each heartbeat line that the machine sends.
    :param fatal: whether a line of the console says that the machine is lost; None: what says that its kernel is.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        vitals: Vitals,
        folder: Path,
        on_beat: Callable[[str], None],
        fatal: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__("QEMU", vitals=vitals, folder=folder, on_beat=on_beat, fatal=fatal)
        ours_qmp, theirs_qmp = socket.socketpair()
        ours_beat, theirs_beat = socket.socketpair()
        fds = (theirs_qmp.fileno(), theirs_beat.fileno())
        self.argv = [
            *argv,
            *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,fd={fds[0]}", "-mon", "chardev=qmp,mode=control"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=beat,fd={fds[1]}"),
            *("-device", "virtserialport,chardev=beat,name=sealproof.beat"),
        ]
        with ours_beat, theirs_qmp, theirs_beat:
            self._start(self.argv, ours_beat.makefile("r", encoding="ascii", errors="replace"), pass_fds=fds)
        try:
            self.qmp = Qmp(ours_qmp, vitals, seconds=20, transcript=folder / TRANSCRIPT)
        except BaseException:
            self.kill()
            raise

    def explain(self) -> str:
        """What the machine is doing, for a wait that ran out: QMP status, registers of the CPUs, last console lines."""
        try:
            status = self.qmp.execute("query-status", seconds=3)["status"]
            registers = self.qmp.monitor("info registers -a", seconds=3)
        except Exception as error:  # noqa: BLE001  the explanation must not replace the failure that it explains
            return f"QMP does not answer ({error}); console ends with:\n{self.tail()}"
        rips = [line for line in registers.splitlines() if line.startswith(("CPU#", "RIP=", "EIP="))]
        return f"status {status}; " + " ".join(rips) + f"\nconsole ends with:\n{self.tail()}"

    def stop(self) -> None:
        """Stop the machine, its clocks included."""
        self.qmp.execute("stop")

    def go_on(self) -> None:
        """Let the machine run on."""
        self.qmp.execute("cont")

    def seconds_stopped(self) -> float:
        """Seconds, so far, in which it stood still, whoever of us has stopped it by QMP."""
        return self.qmp.stops.seconds()

    def wait_status(self, status: str, *, seconds: float) -> None:
        """Wait until QMP reports a run state, for instance ``running``.

        :raises DeadlineError: it does not.
        """
        poll_until(
            lambda: self.qmp.execute("query-status")["status"] == status,
            Deadline(seconds),
            f"{self.vitals.name} to be '{status}'",
            check=self.vitals.check,
            explain=self.explain,
            interval=0.005,
        )
