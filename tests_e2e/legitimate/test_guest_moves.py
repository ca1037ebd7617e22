# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are to sleep, to be saved, or to move: a protected one refuses, or its QEMU does, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.hosts.base import Host
from host_setup.hosts.canaries import Planted
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import CPU, GUEST_PROGRAMS, GUEST_RUN_DIR, GuestSpec, beside
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import SEED_BYTES, UNDER_TEST
from tests_e2e.support.checks import well, works
from tests_e2e.support.extra import standing, works_at_once
from tests_e2e.support.memory import shell

TIMEOUT = 60.0
PIECE = 16  # bytes of a canary that are looked for in a file
NOTHING = "nothing"
REFUSES_TO_MOVE = "State blocked by non-migratable CPU device (invtsc flag)"


@pytest.fixture(scope="module")
def movable(pool: HostPool) -> Iterator[Host]:
    """Guests with the processor that each can be moved with, or not.

    A guest that asks for protection needs ``migratable=off`` (host_setup/hosts/guest_spec.py). On a real processor it
    has an invariant TSC then, and QEMU moves no guest with one (target/i386/kvm/kvm.c kvm_arch_init_vcpu()). The
    emulation has no such TSC: QEMU is told to pretend.
    """

    def shape(spec: GuestSpec) -> GuestSpec:
        cpu = f"{CPU},invtsc=on,x-force-features=on" if spec.opts_in else CPU.replace("migratable=off,", "")
        return replace(spec, extra=("-cpu", cpu))

    with standing(pool, shape) as guests:
        yield guests


def test_guest_is_not_lost_to_suspend_to_ram(trial: Trial, movable: Host) -> None:
    """A plain guest sleeps (S3) and wakes up; a protected one, whose memory that would cost, refuses and runs on."""

    def look(guest: Guest) -> list[Check]:
        _, planted = _remember(guest)
        results = _refuses_to_sleep(guest) if guest.spec.opts_in else _sleeps_and_wakes(guest)
        return [*results, *_runs_on(guest, planted)]

    works_at_once(trial, movable, look)


def test_guest_is_not_lost_to_hibernation(trial: Trial, host: Host) -> None:
    """A protected guest is not saved to disk by itself, as its image would meet other shared pages; a plain one may."""
    works(trial, host, _hibernation)


def test_guest_is_saved_and_restored_or_runs_on(trial: Trial, movable: Host) -> None:
    """A plain guest is saved to a file and restored; QEMU refuses to save a protected one, which runs on unharmed."""

    def look(guest: Guest) -> list[Check]:
        state = f"{GUEST_RUN_DIR}/{guest.spec.name}.state"
        nonce, planted = _remember(guest)
        answer = _migrate(guest, f"file:{state}")
        kinds = [canary.kind for canary in planted if _holds(movable, state, canary)]
        results = []
        if not answer:
            with _another(movable, guest, f"file:{state}") as other:
                results = [_check_restored(other, nonce)]
        movable.ssh.run(["rm", "-f", state], seconds=TIMEOUT).require()
        expected = [] if guest.spec.opts_in else [canary.kind for canary in planted]
        return [
            _refusal(guest, answer),
            *results,
            Check("canaries in the file", str(expected), str(kinds)),
            *_runs_on(guest, planted),
        ]

    works_at_once(trial, movable, look)


def test_guest_is_migrated_or_runs_on(trial: Trial, movable: Host) -> None:
    """A plain guest is migrated, as it runs, to another QEMU; a protected one is refused that, and runs on unharmed."""

    def look(guest: Guest) -> list[Check]:
        where = f"tcp:127.0.0.1:{guest.spec.qmp_port + 3000}"
        with _another(movable, guest, where) as other:
            nonce, planted = _remember(guest)
            answer = _migrate(guest, where)
            waits = Check("the other QEMU still waits", "inmigrate", other.qmp.execute("query-status")["status"])
            results = waits if answer else _check_restored(other, nonce)
        return [_refusal(guest, answer), results, *_runs_on(guest, planted)]

    works_at_once(trial, movable, look)


def test_guest_goes_back_to_a_snapshot_or_runs_on(trial: Trial, movable: Host) -> None:
    """A plain guest goes back to a snapshot of itself; QEMU takes none of a protected one, which runs on unharmed."""

    def look(guest: Guest) -> list[Check]:
        node = _qcow2(guest, f"{GUEST_RUN_DIR}/{guest.spec.name}.qcow2")
        nonce, planted = _remember(guest)
        where = {"tag": "then", "vmstate": node, "devices": [node]}
        answer = _job(guest, "snapshot-save", where)
        results = []
        if not answer:
            guest.ssh.run([f"{GUEST_PROGRAMS}/nonce", "set", "00"], seconds=TIMEOUT).require()
            results = [Check("what QEMU says of going back", NOTHING, _job(guest, "snapshot-load", where) or NOTHING)]
            guest.close()  # what was connected after the snapshot the guest does not know
            results.append(_check_restored(guest, nonce))
        return [_refusal(guest, answer), *results, *_runs_on(guest, [] if results else planted)]

    works_at_once(trial, movable, look)


# --- sleep


def _refuses_to_sleep(guest: Guest) -> list[Check]:
    done = guest.ssh.run(["sh", "-c", "echo mem > /sys/power/state"], seconds=TIMEOUT)
    answer = done.stderr.decode().strip().rpartition(": ")[2]
    return [
        Check("what comes of it", "Function not implemented", answer),
        Check("QEMU's word", "running", guest.qmp.execute("query-status")["status"]),
    ]


def _sleeps_and_wakes(guest: Guest) -> list[Check]:
    guest.ssh.run(["sh", "-c", "{ sleep 0.1; echo mem > /sys/power/state; } > /dev/null 2>&1 &"], seconds=TIMEOUT)
    _wait_for_status(guest, "suspended")
    guest.qmp.execute("system_wakeup")
    _wait_for_status(guest, "running")
    return [Check("QEMU's word", "running", guest.qmp.execute("query-status")["status"])]


OFFERED = "it is offered, so nobody asks"


def _hibernation(guest: Guest) -> list[Check]:
    """Whether a guest may be saved to its disk, by its kernel or by a program; nothing is where it may."""
    offered = "disk" in shell(guest, "cat /sys/power/state").split()
    possible = str(not guest.spec.opts_in).lower()
    ways = {"echo disk > /sys/power/state": "to the kernel", ": < /dev/snapshot": "for the image"}
    results = [Check("hibernation is offered", possible, str(offered).lower())]
    for way, name in ways.items():
        answer = OFFERED
        if not offered:
            answer = guest.ssh.run(["sh", "-c", way], seconds=TIMEOUT).stderr.decode().strip().rpartition(": ")[2]
        expected = "Operation not permitted" if guest.spec.opts_in else OFFERED
        results.append(Check(f"what comes of asking {name}", expected, answer))
    return results


# --- moves


def _remember(guest: Guest) -> tuple[str, list[Planted]]:
    """Have a guest's memory hold a nonce, and private canaries."""
    nonce = secrets.token_hex(16)
    guest.ssh.run([f"{GUEST_PROGRAMS}/nonce", "set", nonce], seconds=TIMEOUT).require()
    return nonce, [
        canary for canary in guest.canaries.plant(secrets.token_bytes(SEED_BYTES)) if canary.set == UNDER_TEST
    ]


def _refusal(guest: Guest, answer: str) -> Check:
    return Check("what QEMU says", REFUSES_TO_MOVE if guest.spec.opts_in else NOTHING, answer or NOTHING)


def _migrate(guest: Guest, where: str) -> str:
    """Migrate a guest, or save it; why QEMU did not, empty if it did."""
    try:
        guest.qmp.execute("migrate", {"uri": where})
    except ChannelError as error:
        return error.message.rpartition(f"{guest.vitals.name}: ")[2]

    def end() -> dict[str, str] | None:
        status: dict[str, str] = guest.qmp.execute("query-migrate")
        return status if status["status"] in ("completed", "failed", "cancelled") else None

    status = poll_until(end, Deadline(TIMEOUT), f"guest {guest.spec.name} to be moved", check=guest.check, interval=0.1)
    return "" if status["status"] == "completed" else status.get("error-desc", status["status"])


def _another(host: Host, guest: Guest, incoming: str) -> contextlib.AbstractContextManager[Guest]:
    """A second QEMU of the same shape, which waits for the guest."""
    spec = beside(guest.spec)
    return host.extra_guest(replace(spec, extra=(*spec.extra, "-incoming", incoming)))


def _check_restored(guest: Guest, nonce: str) -> Check:
    """Whether a guest runs, and remembers."""
    _wait_for_status(guest, "running")
    answer = json.loads(guest.ssh.run([f"{GUEST_PROGRAMS}/nonce", "get"], seconds=TIMEOUT).require().text)
    return Check("what it remembers", nonce, answer["nonce"])


def _runs_on(guest: Guest, planted: list[Planted]) -> list[Check]:
    """Whether the guest that is where it was is well, and has its canaries."""
    if guest.qmp.execute("query-status")["status"] == "postmigrate":
        guest.qmp.execute("cont")
    are_intact = [
        content == canary.content for content, canary in zip(guest.canaries.read(planted), planted, strict=True)
    ]
    return [Check("canaries that are as they were", str(len(planted)), str(sum(are_intact))), *well(guest)]


def _wait_for_status(guest: Guest, status: str) -> None:
    poll_until(
        lambda: guest.qmp.execute("query-status")["status"] == status,
        Deadline(TIMEOUT),
        f"guest {guest.spec.name} to be {status}",
        check=guest.check,
        explain=guest.console_tail,
        interval=0.1,
    )


def _holds(host: Host, file: str, canary: Planted) -> bool:
    """Whether a file of the host's is there and holds a piece of a canary, one in a line: grep looks at lines."""
    pieces = (canary.content[at : at + PIECE] for at in range(len(canary.content) - PIECE))
    pattern = "".join(f"\\x{byte:02x}" for byte in next(piece for piece in pieces if b"\n" not in piece))
    return host.ssh.run(["env", "LC_ALL=C", "/usr/bin/grep", "-qaP", pattern, file], seconds=TIMEOUT).status == 0


def _qcow2(guest: Guest, path: str) -> str:
    """Make an image that can hold snapshots, and have the guest's QEMU open it; the name of its node."""
    node = f"node{secrets.token_hex(4)}"
    for driver, options in (("file", {"filename": path}), ("qcow2", {"file": f"{node}-file"})):
        answer = _job(guest, "blockdev-create", {"options": {"driver": driver, "size": 0, **options}})
        if answer:
            raise ChannelError(f"an image for guest {guest.spec.name}: {answer}")
        name = node if driver == "qcow2" else f"{node}-file"
        guest.qmp.execute("blockdev-add", {"driver": driver, "node-name": name, **options})
    return node


def _job(guest: Guest, command: str, arguments: Mapping[str, object]) -> str:
    """Have QEMU do a job to its end; why it could not, empty if it could."""
    name = f"job{secrets.token_hex(4)}"
    guest.qmp.execute(command, {"job-id": name, **arguments})

    def end() -> dict[str, str] | None:
        jobs: list[dict[str, str]] = guest.qmp.execute("query-jobs")
        return next((job for job in jobs if job["id"] == name and job["status"] == "concluded"), None)

    ending = poll_until(
        end, Deadline(TIMEOUT), f"{command} of guest {guest.spec.name}", check=guest.check, interval=0.1
    )
    guest.qmp.execute("job-dismiss", {"id": name})
    return ending.get("error", "")
