# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs selftests one by one on emulated hosts. A test that hangs or kills its host is a result, not an abort."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import DeadlineError, MachineError
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.hosts import kernel_log
from host_setup.selftests import ktap
from host_setup.selftests.ktap import KtapCheck, KtapOutcome
from host_setup.selftests.suites import HUGE_PAGES, Selftest

MEMORY = 4096  # MiB; what the largest KVM selftests fill by default
FOLDER = "/run/selftests"
"""Where a host has them."""

_GRACE = 30.0  # seconds beyond a test's deadline after which the host counts as hung
_KILL_AFTER = 5  # seconds that a test gets to end when it is asked to
_DISK = "/dev/vdc"  # behind the root file system and the payload

# What a test asks for where the kernel has it: huge pages, swap. /tmp is a file system that has O_TMPFILE and sealing.
_PREPARE = f"""
set -e
mkdir -p {FOLDER}
mount -t erofs -o ro {_DISK} {FOLDER}
mount -t tmpfs tmpfs /tmp
if test -e /proc/sys/vm/nr_hugepages; then echo {HUGE_PAGES} > /proc/sys/vm/nr_hugepages; fi
if test -e /sys/block/zram0; then
    echo 512M > /sys/block/zram0/disksize
    busybox mkswap /dev/zram0 > /dev/null
    busybox swapon /dev/zram0
fi
"""
# The shell stays, so that a test killed by a signal has a status too. Both outputs in one, in their order.
# Not the shell's own timeout (busybox), which knows no --kill-after.
_RUN = 'cd "$1" && shift && /usr/bin/timeout "$@" 2>&1; exit $?'


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """One test on one kernel.

    :ivar seconds: that it took. :ivar splats: what the host's kernel complained of meanwhile.
    :ivar output: all that it wrote.
    """

    test: Selftest
    outcome: KtapOutcome
    reason: str
    seconds: float
    checks: tuple[KtapCheck, ...] = ()
    splats: tuple[str, ...] = ()
    output: str = ""


def host_spec(spec: EmulatedSpec, image: Path) -> EmulatedSpec:
    """The host for selftests: with their disk, and with memory for them."""
    return replace(spec, memory=MEMORY, disks=(image,))


def boot(spec: EmulatedSpec, folder: Path) -> EmulatedHost:
    """A host without a guest, ready for the tests.

    :raises MachineError: it does not boot, or lacks what they need.
    """
    host = EmulatedHost(spec, folder)
    try:
        host.boot_alone()
        host.ssh.run(["sh", "-c", _PREPARE], seconds=60).require()
    except BaseException:
        host.close()
        raise
    return host


def run(
    start: Callable[[], EmulatedHost], tests: Sequence[Selftest], on_result: Callable[[SelftestResult], None]
) -> list[SelftestResult]:
    """Run tests in order, on one host as long as it is fit for the next.

    :param start: gives a fresh host: at first, and after each test that hung, lost its host or upset its kernel.
    :param on_result: told of each.
    :raises MachineError: a fresh host does not come up.
    """
    results: list[SelftestResult] = []
    host: EmulatedHost | None = None
    try:
        for test in tests:
            if host is None:
                host = start()
            result = run_one(host, test)
            results.append(result)
            on_result(result)
            if result.outcome in (KtapOutcome.TIMEOUT, KtapOutcome.LOST) or result.splats:
                host.close()
                host = None
    finally:
        if host is not None:
            host.close()
    return results


def run_one(host: EmulatedHost, test: Selftest) -> SelftestResult:
    """Run one test. What the kernel complains of meanwhile makes a PASS a FAIL."""
    log_before = len(host.kernel_log())
    begun = time.monotonic()
    folder = f"{FOLDER}/{test.suite}"
    limit = [f"--kill-after={_KILL_AFTER}", f"{test.deadline:g}", f"./{test.program}", *test.arguments]
    output, checks = "", tuple[KtapCheck, ...]()
    try:
        done = host.ssh.run(["sh", "-c", _RUN, "sh", folder, *limit], seconds=test.deadline + _GRACE)
    except (MachineError, DeadlineError) as error:
        seconds = time.monotonic() - begun
        judgement = ktap.Judgement(KtapOutcome.LOST, error.message.splitlines()[0])
    else:
        seconds = time.monotonic() - begun
        output = (done.stdout + done.stderr).decode(errors="replace")
        judgement = ktap.judge(done.status, output, seconds=seconds, deadline=test.deadline)
        checks = ktap.read(output).checks
    splats = tuple(kernel_log.splats(host.kernel_log()[log_before:]))
    outcome, reason = judgement.outcome, judgement.reason
    if splats and outcome in (KtapOutcome.PASS, KtapOutcome.SKIP):
        outcome, reason = KtapOutcome.FAIL, f"the host's kernel said: {splats[0].strip()}"
    return SelftestResult(test, outcome, reason, round(seconds, 1), checks, splats, output)
