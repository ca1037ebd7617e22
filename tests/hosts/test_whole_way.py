# SPDX-License-Identifier: GPL-2.0-or-later
"""A sign-off on a real machine, as a user starts it: claims are proved there, and the machine comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.paths import PROJECT
from tests.hosts.bench import Bench, run_program
from tests.hosts.standin.machine import write_inventory

CLAIMS = (
    "read_private_page_by_process_vm_readv or write_private_page_by_proc_pid_mem or cmpxchg_of_4_bytes_is_emulated"
    " or (virtio_disk_keeps_data and not queue_depth) or kernel_stays_healthy or guest_does_not_stall"
)
NOT_PROVEN = 2  # pytest's exit status where some claims were chosen
TIMEOUT = 3600.0  # the kernel made from the machine's own configuration is built by the run itself
DOCTOR = 120.0  # seconds


@pytest.mark.parametrize(
    ("boot", "user", "config"),
    [("kexec", "root", "lean"), ("grub", "lab", "lean"), ("kexec", "root", "own")],
    ids=["by kexec, as root", "by an entry of GRUB, with sudo", "by kexec, with its own configuration"],
)
def test_claims_are_proved_on_the_machine(
    bench: Bench, say: Callable[[str], None], request: pytest.FixtureRequest, boot: str, user: str, config: str
) -> None:
    """Claims are proved on the machine, which comes back."""
    option = request.config.option
    # As hosts of QEMU's are told: EmulatedSpec.words says why.
    clock = f"tsc_early_khz={bench.programs.tsc_khz()}"
    entry = bench.standin.entry(boot=boot, user=user, config=config, command_line=clock)
    name = f"{boot}-{config}"
    inventory = write_inventory(bench.folder / f"{name}.toml", entry)
    reports = bench.folder / f"reports-{name}"
    words = ["-m", "pytest", str(PROJECT / "tests_e2e"), "-q", "-k", CLAIMS]
    words += [f"--mode={option.mode}", f"--series={option.series}"]
    words += [f"--inventory={inventory}", f"--host=ssh://{entry.address}", f"--reports={reports}"]
    if option.kernel_source is not None:
        words.append(f"--kernel-source={option.kernel_source}")
    if option.layers:
        words.append(f"--layers={','.join(option.layers)}")
    status, output = run_program(words, bench.folder / f"{name}.log", TIMEOUT)
    documents = [
        file for file in reports.glob("*/signoff.json") if not file.parent.is_symlink()
    ]  # "latest" is one more
    assert len(documents) == 1, output
    run, host = _read(documents[0])
    assert {claim: verdict for claim, verdict in run.items() if verdict != "PASS"} == {}, output
    assert len(run) >= 6, output
    assert status == NOT_PROVEN, output
    assert host["kind"] == f"machine in qemu, by SSH and {boot}"
    say(f"{len(run)} claims PASS")


def _read(report: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The verdicts on the claims that were run, and what the report says of the host."""
    document = json.loads(report.read_text(encoding="utf-8"))
    verdicts = {claim["id"]: claim["status"] for claim in document["claims"] if claim["status"] != "MISS"}
    return verdicts, document["host"]


@pytest.mark.parametrize("user", ["root", "lab"])
def test_doctor_tries_the_machine(bench: Bench, say: Callable[[str], None], user: str) -> None:
    """'make doctor INVENTORY=' tries the machine, and changes nothing."""
    inventory = write_inventory(bench.folder / f"doctor-{user}.toml", bench.standin.entry(user=user))
    status, output = run_program(
        ["-m", "host_setup.tools.remote_doctor", str(inventory)], bench.folder / "doctor.log", DOCTOR
    )
    assert status == 0, output
    say(output.splitlines()[0].split(": ", 1)[-1])
