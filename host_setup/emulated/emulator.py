# SPDX-License-Identifier: GPL-2.0-or-later
"""A process of this machine that emulates another: started, watched on the other's console and on its own exit."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from common.processes import spawn
from host_setup.channels.vitals import Vitals
from host_setup.hosts import kernel_log
from host_setup.hosts.timeline import CONSOLE, TIMES

TRACE_LINES = 60  # of console shown with a death
AFTER_OOPS = 3.0  # seconds that a dying kernel gets to print its trace


class Emulator:
    """An emulator that runs, and the machine in it.

    :param name: of the program, as errors give it; also the name of its own log.
    :param folder: where ``console.log``, ``console.times`` and the emulator's own log go. The times have a line for
        each of the console: seconds since 1970, and its bytes.
    :param on_beat: called, from a thread, with each heartbeat line that the machine sends.
    :param fatal: whether a line of the console says that the machine is lost; None: what says that its kernel is.
    """

    def __init__(
        self,
        name: str,
        *,
        vitals: Vitals,
        folder: Path,
        on_beat: Callable[[str], None],
        fatal: Callable[[str], bool] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.vitals = vitals
        self.console_log = folder / CONSOLE
        self._name = name
        self._fatal = fatal or kernel_log.fatal
        self._on_beat = on_beat
        self._times = folder / TIMES
        self._own_log = folder / f"{name.lower()}.log"
        self._tail: list[str] = []
        self._waited = 0.0

    def _start(
        self,
        argv: Sequence[str],
        beat: IO[str],
        console: IO[bytes] | None = None,
        *,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, and the threads that watch it.

        :param beat: where the heartbeat's lines come from.
        :param console: where the console's come from; None: the emulator's standard output.
        """
        stdout = subprocess.PIPE if console is None else subprocess.DEVNULL
        with self._own_log.open("ab") as log:
            self._process = spawn(argv, stdout=stdout, stderr=log, pass_fds=pass_fds, env=env)
        self._watcher = threading.Thread(
            target=self._watch_console, args=(console or self._process.stdout,), daemon=True
        )
        self._watcher.start()
        threading.Thread(target=self._watch_beat, args=(beat,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id of this emulator."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether this emulator is no more."""
        return self._process.poll() is not None

    def console(self) -> str:
        """All that the console said so far."""
        return self.console_log.read_text(encoding="utf-8", errors="replace") if self.console_log.exists() else ""

    def tail(self) -> str:
        """The console's last lines."""
        return "".join(self._tail[-TRACE_LINES:])

    def seconds_without_cpu(self) -> float:
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

    def kill(self) -> None:
        """End this emulator at once, and wait for it to be gone."""
        self.vitals.note_loss("it was ended by the run")
        self._process.kill()
        self._process.wait()
        self._watcher.join()  # what it said last may still be on its way to the log

    def _last_words(self) -> str:
        """What the emulator itself said of its end."""
        return self._own_log.read_text(errors="replace").strip()

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
                    # The trace that follows is the evidence: give it time, unless the emulator exits before.
                    dying = threading.Timer(AFTER_OOPS, self._note_death, args=(line,))
                    dying.daemon = True
                    dying.start()
        status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = f"kernel died: {last.strip()}" if last else f"its {self._name} ended with {how}"
        parts = (reason, self._last_words(), self.tail().rstrip())
        self.vitals.note_loss("\n".join(part for part in parts if part), harm=bool(last))

    def _note_death(self, line: str) -> None:
        self.vitals.note_loss(f"kernel died: {line.strip()}\n{self.tail().rstrip()}", harm=True)

    def _watch_beat(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._on_beat(line)
