# SPDX-License-Identifier: GPL-2.0-or-later
"""A real machine as the probes see it, and as many pristine ones in a row as they want: guests begin anew each time."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import ChannelError, DeadlineError
from common.progress import Terminal
from common.waiting import Deadline
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.channels.ssh import Conversation, Stream
from host_setup.hosts import kernel_log
from host_setup.hosts.guest_spec import GUEST_RUN_DIR, GuestSpec
from host_setup.hosts.running import ANY_HOST_KEY, CONNECT, RunningHost
from host_setup.remote.control import Control
from host_setup.remote.leased import Leased

USERLAND_DIR = "/run/sealproof"  # of the probes' root file system, on the machine
USERLAND = Path(__file__).with_name("userland.sh")
UNIT = "sealproof-host"
COPY = 600.0  # seconds for the images
USERLAND_UP = 120.0  # seconds until what the probes run in is there
ENDED = "it was ended by the run"
# By its path, or the shell there, which is busybox, takes its own program of that name, which does not follow.
FOLLOW_LOG = ("/bin/dmesg", "--follow", "--color=never")
_PROPERTIES = (
    *("LimitMEMLOCK=infinity", "LimitCORE=infinity", "TasksMax=infinity", "OOMPolicy=continue"),
    "TimeoutStopSec=10",  # the way back waits for no guest
)
# Of a guest's QEMU its end counts, not the signal: as long as it is there its memory is. The last count of its heart is
# not to be taken for the next guest's: within half a second what beats there (guest_images/host/services) sees it gone.
_END = f"""
for file in {GUEST_RUN_DIR}/*.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    kill -KILL "$pid" || continue
    while [ -e "/proc/$pid" ]; do sleep 0.1; done
done
rm -rf {GUEST_RUN_DIR}/*
sleep 1
"""
TIERS = {"none": "bare-metal", "qemu": "emulated"}
"""What a run on a machine proves, by what systemd-detect-virt says of it; all else runs beneath another hypervisor."""


@dataclass(frozen=True, slots=True)
class RemoteSpec:
    """What a real machine gets under the kernel under test: the probes' root file system, guests, keys."""

    rootfs: RootFs
    payload: Payload
    keys: Keys
    guests: tuple[GuestSpec, ...]


class KernelLog:
    """What the machine's kernel says from its boot on, line by line.

    :param on_line: called from a thread.
    """

    def __init__(self, talk: Conversation, on_line: Callable[[str], None]) -> None:
        self._lines: list[str] = []
        self._talk = talk
        self._on_line = on_line
        threading.Thread(target=self._read, name="kernel log", daemon=True).start()

    def _read(self) -> None:
        for line in self._talk.follow():
            self._lines.append(line)
            self._on_line(line)

    def __len__(self) -> int:
        return len(self._lines)

    def text(self, first: int = 0, end: int | None = None) -> str:
        """The lines from one on."""
        return "\n".join(self._lines[first:end])

    def close(self) -> None:
        """Listen no more."""
        self._talk.close()


class RemoteHost(RunningHost):
    """A real machine that runs the kernel under test, with guests that nobody used before.

    :param control: sessions of its own; it owns them.
    """

    def __init__(self, leased: Leased, spec: RemoteSpec, control: Control) -> None:
        super().__init__(spec.guests, spec.keys)
        self.tier = TIERS.get(leased.facts.get("virtual", ""), "nested")
        self.spec = spec
        self._leased = leased
        self._control = control
        self._log: KernelLog | None = None
        self._beating: Conversation | None = None
        self._console_from = len(leased.console.text())

    @property
    def qemu(self) -> None:
        """It runs in none."""
        return

    def _way(self, port: int) -> Callable[[float], Stream]:
        return self._control.way(port)

    def _explain(self) -> str:
        return self._leased.console.tail()

    def _patience(self, seconds: float) -> Deadline:
        return Deadline(seconds)

    def boot(self) -> None:
        """Start the guests and wait for them."""
        self._ssh = self.log_in(USERLAND_UP)
        self._log = KernelLog(self._ssh.converse(FOLLOW_LOG, seconds=CONNECT), self._take_line)
        self._beating = self._ssh.converse(["cat", "/run/beat"], seconds=CONNECT)
        threading.Thread(target=self._listen, args=(self._beating,), name="heartbeat", daemon=True).start()
        # A guest takes no longer than the machine itself: slow ones are slow in all they do.
        deadline = Deadline(self._leased.machine.limits.boot)
        self._wait_for_beat("host", deadline, explain=self._explain)
        self._boot_guests(deadline)

    def _take_line(self, line: str) -> None:
        if kernel_log.fatal(line):
            self.vitals.note_loss(f"kernel died: {line.strip()}", harm=True)

    def _listen(self, beating: Conversation) -> None:
        for line in beating.follow():
            self._beats.take_line(line)
        self.vitals.note_loss("its heartbeat ended")

    def sleep(self) -> None:
        """Nothing: a real machine runs on."""

    def identity(self) -> dict[str, str]:
        """What a report says of it."""
        leased, facts = self._leased, self._leased.facts
        virtual = facts.get("virtual", "")
        kind = "real machine" if virtual == "none" else f"machine in {virtual}"
        return {
            "kind": f"{kind}, by SSH and {leased.machine.boot}",
            "machine": leased.name,
            "cpu": facts.get("processor", ""),
            "cpus": facts.get("cpus", ""),
            "memory": f"{int(facts.get('memory') or 0) // 1024} MiB",
            "guests": ", ".join(f"{guest.name} ({guest.memory} MiB)" for guest in self.spec.guests),
            "qemu of the guest": self.spec.rootfs.version("qemu-system-x86"),
            "own kernel": facts.get("release", ""),
            "command line": leased.command_line,
        }

    def kernel_log(self) -> str:
        """What its kernel said since it boots, and its console since this host began."""
        logs = [] if self._log is None else [self._log.text()]
        return "\n".join([*logs, self._leased.console.text()[self._console_from :]])

    def login_command(self, guest: GuestSpec | None = None) -> str:
        """How a person on this machine logs in to it, or to a guest of it."""
        machine = self._leased.machine
        port = ["-p", str(machine.port)] if machine.port else []
        ssh = ["ssh", *machine.ssh_options, "-i", str(machine.key_file), *port]
        target = f"{machine.user}@{machine.endpoint[0]}"
        if guest is not None:
            jump = shlex.join([*ssh, "-W", "%h:%p", target])
            login = f"ssh -i {self.keys.client} {ANY_HOST_KEY} -p {guest.ssh_port}"
            return f"{login} -o ProxyCommand={shlex.quote(jump)} root@127.0.0.1"
        inside = f"{'' if machine.user == 'root' else 'sudo '}chroot {USERLAND_DIR}/root /bin/sh"
        return f"{shlex.join([*ssh, '-t', target])} {inside}"

    def close(self) -> None:
        """End the guests, and the channels to them."""
        try:
            if self.vitals.reason is None and self._ssh is not None:
                self._ssh.run(["sh", "-c", _END], seconds=60)
        finally:
            self.vitals.note_loss(ENDED)
            self._disconnect()
            self._control.close()


class RemoteHosts:
    """Hosts of one leased machine, one after the other.

    :param note: told what went another way.
    """

    one_at_a_time = True

    def __init__(self, leased: Leased, spec: RemoteSpec, terminal: Terminal, *, note: Callable[[str], None]) -> None:
        self.leased = leased
        self.spec = spec
        self._terminal = terminal
        self._note = note
        self._last: RemoteHost | None = None
        self._cmdline = ""

    def furnish(self) -> None:
        """Give the machine, which runs the kernel under test, what the probes run in. It is gone with the next boot."""
        control = self.leased.control
        with self._terminal.step(f"images for {self.leased.name}"):
            control.run(["mkdir", "-p", "-m", "700", USERLAND_DIR], seconds=30).require()
            for name, image in (("root", self.spec.rootfs.host_image), ("payload", self.spec.payload.image)):
                control.write_file(f"{USERLAND_DIR}/{name}.erofs", image.read_bytes(), seconds=COPY)
            control.write_file(f"{USERLAND_DIR}/userland", USERLAND.read_bytes(), seconds=60)
            properties = [word for name in _PROPERTIES for word in ("-p", name)]
            order = ["systemd-run", "--quiet", f"--unit={UNIT}", *properties, "/bin/sh", f"{USERLAND_DIR}/userland"]
            control.run(order, seconds=60).require()

    def start(self) -> RemoteHost:
        """The machine with fresh guests; booted anew if it was lost, or its kernel is no longer well."""
        why = "its kernel has another command line" if self._cmdline else self._why_unfit()
        if why:
            self._boot("", why)
        return self._host(self.spec)

    def cold(self, cmdline: str = "", *, alone: bool = False) -> RemoteHost:
        """The machine booted anew, with fresh guests.

        :param cmdline: added to its kernel's command line. :param alone: without guests.
        """
        self._boot(cmdline, f"with '{cmdline}'" if cmdline else "as asked for")
        return self._host(replace(self.spec, guests=()) if alone else self.spec)

    def _boot(self, cmdline: str, why: str) -> None:
        self._note(f"{self.leased.name} is booted again: {why}")
        self._cmdline = cmdline
        self.leased.recover(cmdline)
        self.furnish()

    def _host(self, spec: RemoteSpec) -> RemoteHost:
        host = self._last = RemoteHost(self.leased, spec, Control(self.leased.name, self.leased.machine))
        try:
            host.boot()
        except BaseException:
            host.close()
            raise
        return host

    def _why_unfit(self) -> str:
        """Why the machine cannot just go on; empty if it can."""
        if self._last is None:
            return ""
        reason = self._last.vitals.reason
        if reason not in (None, ENDED):
            return reason.splitlines()[0]
        try:
            last_words = self.leased.control.run(["dmesg"], seconds=30).require().text
        except (ChannelError, DeadlineError) as error:
            return error.message
        splats = kernel_log.splats(last_words)
        return splats[0] if splats else ""

    def first_log(self) -> str:
        """Nothing was said before the first host: its own log begins with the boot."""
        return ""

    def close(self) -> None:
        """Bring the machine back."""
        self.leased.restore()
