# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU of this machine: started, watched on its console and its exit, spoken to by QMP."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from common.processes import spawn
from common.waiting import Deadline, poll_until
from host_setup.channels.qmp import Qmp
from host_setup.channels.vitals import Vitals
from host_setup.hosts import kernel_log
from host_setup.hosts.timeline import CONSOLE, TIMES, TRANSCRIPT

"""Files of a machine's folder. The times have a line for each of the console: seconds since 1970, and its bytes."""
TRACE_LINES = 60  # of console shown with a death
AFTER_OOPS = 3.0  # seconds that a dying kernel gets to print its trace


class Qemu:
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
        self._fatal = fatal or kernel_log.fatal
        folder.mkdir(parents=True, exist_ok=True)
        self.vitals = vitals
        self.console_log = folder / CONSOLE
        self._times = folder / TIMES
        self._stderr = folder / "qemu.log"
        self._tail: list[str] = []
        self._waited = 0.0
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
        with self._stderr.open("ab") as stderr:
            self._process = spawn(self.argv, stdout=subprocess.PIPE, stderr=stderr, pass_fds=fds)
        theirs_qmp.close()
        theirs_beat.close()
        self._watcher = threading.Thread(target=self._watch_console, args=(self._process.stdout,), daemon=True)
        self._watcher.start()
        threading.Thread(target=self._watch_beat, args=(ours_beat, on_beat), daemon=True).start()
        try:
            self.qmp = Qmp(ours_qmp, vitals, seconds=20, transcript=folder / TRANSCRIPT)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process id of this QEMU."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether this QEMU is no more."""
        return self._process.poll() is not None

    def console(self) -> str:
        """All that the console said so far."""
        return self.console_log.read_text(encoding="utf-8", errors="replace") if self.console_log.exists() else ""

    def tail(self) -> str:
        """The console's last lines."""
        return "".join(self._tail[-TRACE_LINES:])

    def waited_for_cpu(self) -> float:
        """Seconds, so far, in which the machine would have run and this computer had no processor for it.

        The longest of its threads' waits on the run queue (Documentation/scheduler/sched-stats.rst, nanoseconds in the
        second field of schedstat); 0 where the kernel does not count them.
        """
        longest = 0
        for file in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                longest = max(longest, int(file.read_text(encoding="ascii").split()[1]))
        self._waited = max(self._waited, longest / 1e9)
        return self._waited

    def explain(self) -> str:
        """What the machine is doing, for a wait that ran out: QMP status, registers of the CPUs, last console lines."""
        try:
            status = self.qmp.execute("query-status", seconds=3)["status"]
            registers = self.qmp.monitor("info registers -a", seconds=3)
        except Exception as error:  # noqa: BLE001  the explanation must not replace the failure that it explains
            return f"QMP does not answer ({error}); console ends with:\n{self.tail()}"
        rips = [line for line in registers.splitlines() if line.startswith(("CPU#", "RIP=", "EIP="))]
        return f"status {status}; " + " ".join(rips) + f"\nconsole ends with:\n{self.tail()}"

    def kill(self) -> None:
        """End this QEMU at once, and wait for it to be gone."""
        self.vitals.lost("it was ended by the run")
        self._process.kill()
        self._process.wait()
        self._watcher.join()  # what it said last may still be on its way to the log

    def _watch_console(self, pipe: IO[bytes]) -> None:
        dying: threading.Timer | None = None
        last = ""
        with pipe, self.console_log.open("ab", buffering=0) as log, self._times.open("ab", buffering=0) as times:
            for raw in pipe:
                log.write(raw)
                times.write(b"%.3f %d\n" % (time.time(), len(raw)))
                line = raw.decode(errors="replace")
                self._tail = [*self._tail[-2 * TRACE_LINES :], line]
                if dying is None and self._fatal(line):
                    last = line
                    # The trace that follows is the evidence: give it time, unless QEMU exits before.
                    dying = threading.Timer(AFTER_OOPS, self._died, args=(line,))
                    dying.daemon = True
                    dying.start()
        status = self._process.wait()
        said = self._stderr.read_text(errors="replace").strip()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = f"kernel died: {last.strip()}" if last else f"its QEMU ended with {how}"
        self.vitals.lost("\n".join(part for part in (reason, said, self.tail().rstrip()) if part), harm=bool(last))

    def _died(self, line: str) -> None:
        self.vitals.lost(f"kernel died: {line.strip()}\n{self.tail().rstrip()}", harm=True)

    @staticmethod
    def _watch_beat(sock: socket.socket, on_beat: Callable[[str], None]) -> None:
        with sock, sock.makefile("r", encoding="ascii", errors="replace") as lines:
            for line in lines:
                on_beat(line)

    def wait_status(self, wanted: str, *, seconds: float) -> None:
        """Wait until QMP reports a run state, for instance ``running``.

        :raises DeadlineError: it does not.
        """
        poll_until(
            lambda: self.qmp.execute("query-status")["status"] == wanted,
            Deadline(seconds),
            f"{self.vitals.name} to be '{wanted}'",
            check=self.vitals.check,
            explain=self.explain,
            interval=0.005,
        )
