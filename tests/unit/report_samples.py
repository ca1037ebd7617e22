# SPDX-License-Identifier: GPL-2.0-or-later
"""A small report, made as a run makes it: by trials of claims, with evidence, a journal and a signature."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from host_setup.hosts.canaries import canary_of
from signoff import contract_files, needs
from signoff.attestation import sign
from signoff.contract import Claim, Condition, Kind, Mode, ProbeClaim
from signoff.evidence import Evidence
from signoff.host_facts import HostFacts
from signoff.keys import put_key
from signoff.memory_map import MemoryMap, spans
from signoff.observation import PAGE_SIZE, Canary, Check, Observation, Page, State
from signoff.outcome import Outcome
from signoff.record import CONFIG, LISTS, KernelIdentity, PatchIdentity, Record, Tier, now
from signoff.report import write
from signoff.results import without_verdict
from signoff.trial import Trial
from signoff.verdict import Status
from tests.unit.signoff_samples import observation
from tests_e2e.support.sweep import checks as sweep_checks
from tests_e2e.support.sweep import parse as parse_sweep

KEY = Ed25519PrivateKey.generate()
"""Signs the reports."""

CONTRACT = """
version = 2
[[claim]]
id = "host_cannot_read"
kind = "attack"
class = "kernel-gup"
source = "mm/gup.c"
reason = "It is refused where secretmem is."
plain = { returned = 4096, leak = "page" }
protected = { returned = -1, errno = "EFAULT", leak = "none" }
[[claim]]
id = "host_cannot_write"
kind = "attack"
class = "kernel-gup"
source = "mm/gup.c"
reason = "It is refused where secretmem is."
plain = { returned = 4096, leak = "none", page_after = "overwritten" }
protected = { returned = -1, errno = "EFAULT", leak = "none", page_after = "intact" }
[[claim]]
id = "host_reads_zeros"
kind = "attack"
class = "kernel-address"
pages = ["kernel"]
narrowed = "the kernel's page alone lies there"
source = "fs/proc/kcore.c"
reason = "What cannot be read is zeros."
plain = { returned = 4096, leak = "page" }
protected = { returned = 4096, leak = "none" }
[[claim]]
id = "qemu_has_no_vfio"
kind = "attack"
class = "kernel-gup"
skip = { when = "no-vfio" }
source = "drivers/vfio"
reason = "VFIO pins pages."
plain = { returned = 0, leak = "page" }
protected = { returned = -1, errno = "EFAULT", leak = "none" }
[[claim]]
id = "kernel_can_map"
kind = "boundary"
class = "compromise"
source = "arch/x86/mm"
reason = "Nothing keeps the kernel from it."
plain = { returned = 0, leak = "page" }
protected = { returned = 0, leak = "page" }
[[claim]]
id = "host_reads_no_other_page"
kind = "oracle"
class = "host-user"
source = "mm/gup.c"
reason = "Every page is tried."
[[claim]]
id = "guest_works"
kind = "legitimate"
class = "devices"
source = "drivers/virtio"
reason = "It must go on."
[[claim]]
id = "host_kernel_stays_healthy"
kind = "health"
class = "health"
source = "kernel/panic.c"
reason = "Nothing may break."
"""
HOST = {"processor": "AuthenticAMD, QEMU", "features": "svm, npt, pku, avx2", "devices": "kvm, vhost-net",
        "started": "restored"}  # fmt: skip
CONFIGURATION = (
    "#\n# Linux/x86 6.12.117 Kernel Configuration\n#\nCONFIG_KVM=y\nCONFIG_VHOST_NET=m\n# CONFIG_VFIO is not set\n"
)
KERNEL = KernelIdentity(
    "6.12.117", "ab" * 20, "Linux 6.12.117, tarball linux-source-6.12.tar.xz",
    hashlib.sha256(CONFIGURATION.encode()).hexdigest(),
    (PatchIdentity("0001-x.patch", "ef" * 32),), running_build_id="ab" * 20, source_sha256="5a" * 32,
    image_sha256="1a" * 32, vmlinux_sha256="1b" * 32, compiler="gcc 12.2.0",
)  # fmt: skip
FLAGS = {State.PRIVATE: " kp", State.SHARED: "", State.PLAIN: ""}
"""What the host's kernel says of the mapping that a page lies in."""
BANNER = "Linux version 6.12.117 (sealproof@sealproof) (gcc 12.2.0, GNU ld 2.40) #1 SMP 1970-01-01 00:00:00 UTC"
"""As the kernel begins its log."""
FILES = {
    "sealproof's files": f"{'01' * 32}  conftest.py\n{'02' * 32}  signoff/verdict.py\n",
    "Python and its packages": f"{'03' * 32}  python==3.11.2\n{'04' * 32}  pytest==9.0.1\n",
    "emulator": f"{'05' * 32}  qemu/qemu-system-x86_64\n",
    "payload's files": f"{'1a' * 32}  guest/bzImage\n{'06' * 32}  guest/initramfs\n"
    f"{'07' * 32}  modules/host_attack.ko\n{'08' * 32}  programs/sealproof\n",
    "modules": f"{'09' * 32}  guest_canary.ko\n{'07' * 32}  host_attack.ko\n",
}
MADE_OF = {
    "root file system": "0a" * 32, "payload": "0b" * 32, "guest image": "06" * 32, "programs": "08" * 32,
    **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in FILES.items()},
}  # fmt: skip
# What the kernel says of an allocation that a claim of ours has fail, and of a VMM that it has killed: no complaint.
MADE_TO_FAIL = (
    "[    9.1] fail-nth: vmalloc error: size 4\n[    9.2] Call Trace:\n[    9.3]  <TASK>\n[    9.4] Mem-Info:\n"
    "[    9.5] past-limit invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n[    9.6] Call Trace:\n"
    "[    9.7] Memory cgroup out of memory: Killed process 107 (past-limit) total-vm:152536kB\n"
)
COMMIT = "0" * 40
Change = Callable[[str, str, dict[str, Any]], dict[str, Any]]
"""Changes what is observed: claim, role, the observation's fields."""


class Story:
    """A run, claim by claim.

    :param evidence: the contract's file of that name; empty: it has none.
    :param changes: what is observed otherwise. :param statuses: claims that end otherwise than PASS (SKIP if they can).
    """

    def __init__(
        self,
        reports: Path,
        *,
        contract: str = CONTRACT,
        evidence: str = "",
        mode: Mode = Mode.PROTECTED,
        run: str = "",
        change: Change = lambda _claim, _role, facts: facts,
        statuses: Mapping[str, Status] | None = None,
        **record: Any,
    ) -> None:
        reports.mkdir(parents=True, exist_ok=True)
        files = {"contract.toml": contract, **({needs.FILE: evidence} if evidence else {})}
        shutil.rmtree(reports / "contract", ignore_errors=True)
        (reports / "contract").mkdir()
        for name, text in files.items():
            (reports / "contract" / name).write_text(text, encoding="utf-8")
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        facts: dict[str, Any] = {
            "run": run or f"{moment}-{secrets.token_hex(3)}",
            "started": now(),
            "ended": now(),
            "mode": mode,
            "command": "pytest tests_e2e",
            "commit": COMMIT,
            "tier": Tier.EMULATED,
            "series": "a-series",
            "kernel": KERNEL,
            "host": HOST,
            "machine": "vm",
            "made_of": MADE_OF,
        }
        self.record = Record(**{**facts, **record})
        self.evidence = Evidence.create(reports, self.record.run, reports / "contract")
        for name, text in FILES.items():
            self.evidence.identify(LISTS[name], text)
        self.evidence.identify(CONFIG, CONFIGURATION)
        self.contract = contract_files.load(reports / "contract")
        self.evidence.write_planned({claim.id: _sentence(claim) for claim in self.contract.claims})
        self.mode = mode
        self._change = change
        self._statuses = statuses or {}
        self._host = secrets.token_hex(16)

    def tell(self) -> None:
        """Have every claim tried."""
        for claim in self.contract.claims:
            self.add(claim)

    def add(self, claim: Claim) -> None:
        """Have a claim tried, and its line put down."""
        status = self._statuses.get(claim.id, Status.SKIP if claim.skip else Status.PASS)
        command = f"{self.record.command} -k test_{claim.id}"
        claim_needs = self.contract.needs.get(claim.id, ())
        trial = Trial(claim, self.mode, _sentence(claim), command, self.evidence, self._holds, self._known, claim_needs)
        with contextlib.suppress(pytest.fail.Exception, pytest.skip.Exception):
            self._try(trial, trial.claim, status)
            if status is not Status.SKIP:
                trial.close()
        trial.add_seconds(1.5)
        self.evidence.append(trial.result())

    def miss(self, claim: Claim, why: str = "not run: not among those asked for") -> None:
        """Put down a claim that was not tried."""
        self.evidence.append(without_verdict(claim, self.mode, "", Status.MISS, why))

    def end(self, key: Ed25519PrivateKey | None = None) -> Path:
        """End the run, and sign its reports if there is a key; returns its folder."""
        folder = self.evidence.folder
        if self.record.tier is Tier.EMULATED:  # each host that was started leaves its folder
            (folder / "hosts/host-1").mkdir(parents=True, exist_ok=True)
            (folder / "hosts/host-1/qmp.jsonl").touch()
        self.evidence.write_record(self.record)
        if not self.record.ended:
            write(folder)
            return folder
        self.evidence.end()
        if key is not None:
            put_key(folder, key)
        write(folder)
        if key is not None:
            sign(folder, key)
        return folder

    def _holds(self, condition: Condition) -> bool:
        return condition.holds(self.record.tier, self.record.host)

    def _known(self) -> HostFacts:
        kernel = self.record.kernel
        return HostFacts.of(kernel.release if kernel else None, self.record.tier, self.record.host)

    def _try(self, trial: Trial, claim: Claim, status: Status) -> None:
        if status is Status.ERROR:
            trial.note_error("call", OSError("it broke"), "")
        elif status is Status.SKIP:
            try:
                trial.skip_where_the_contract_says_so()
            except pytest.skip.Exception as error:
                trial.note_error("setup", error, "")
        elif status is Status.MISS:
            pass
        elif isinstance(claim, ProbeClaim):
            self._probe(trial, claim, failing=status is Status.FAIL)
        elif claim.kind is Kind.HEALTH:
            trial.attach("console.log", f"[    0.000000] {BANNER}\n{self._processor()}{MADE_TO_FAIL}")
            trial.health([Check("splats", "none", "one" if status is Status.FAIL else "none")])
        elif claim.kind is Kind.ORACLE:
            self._sweep(trial)
        else:
            wrong = "5" if status is Status.FAIL else "4"
            control = [Check("sum", "4", "4")] if self.mode is Mode.PROTECTED else None
            trial.legitimate([Check("sum", "4", wrong)], control, protected=True if control else None)

    def _processor(self) -> str:
        """What the host's kernel says of its processor."""
        vendor, _, model = self.record.host.get("processor", "").partition(", ")
        name = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(vendor, vendor)
        return f"[    0.1] smpboot: CPU0: {name} {model} (family: 0x6, model: 0x6, stepping: 0x3)\n"

    def _probe(self, trial: Trial, claim: ProbeClaim, *, failing: bool) -> None:
        subject = State.PRIVATE if self.mode is Mode.PROTECTED else State.PLAIN
        controls = (State.PLAIN, State.SHARED) if self.mode is Mode.PROTECTED else ()
        records = {
            role: [self._observed(trial, claim, role, page, state, failing=failing) for state in states
                   for page in claim.pages]
            for role, states in (("subject", (subject,)), ("control", controls))
        }  # fmt: skip
        trial.attack(subject=records["subject"], control=records["control"])

    def _observed(
        self, trial: Trial, claim: ProbeClaim, role: str, page: Page, state: State, *, failing: bool
    ) -> Observation:
        key = secrets.token_bytes(32)
        canary = Canary(canary_of(key), key)
        place = 1 + 4 * list(Page).index(page) + list(State).index(state)
        guest = "plain" if state is State.PLAIN else "protected"
        gpa, hva, hpa = place << 12, 0x7F0000000000 + (place << 12), 0x40000000 + (place << 12)
        aim = trial.aim(
            canary, page, state, host=self._host, guest=guest, addresses=(gpa, hva, hpa),
            mapping=(0x7F0000000000, 0x7F0010000000),
        )  # fmt: skip
        outcome, pid = claim.outcome(state), 104 if state is State.PLAIN else 103
        protected = state is not State.PLAIN
        facts: dict[str, Any] = {
            "page": page,
            "state": state,
            "call": "a call",
            "canary": canary,
            "reach": (
                f"guest {guest} holds it at guest-physical {gpa:#x}, before the probe and after",
                f"its QEMU (pid {pid}) has this page at {hva:#x}, host-physical {hpa:#x}",
                f"/proc/{pid}/smaps: 7f0000000000-7f0010000000 rw-p 00000000 00:00 0 ; VmFlags: rd wr{FLAGS[state]} ",
                f"KVM of the guest's protection: enabled: {int(protected)} private_pages: {4096 * protected}",
            ),
            "aim": aim,
            **_as_contracted(outcome, canary_of(key)),
        }
        if failing and role == "subject":
            facts["data"] = canary_of(key)
        return observation(**self._change(claim.id, role, facts))

    def _sweep(self, trial: Trial) -> None:
        listing = []
        for guest, protected in (("protected", True), ("plain", False)) if self.mode is Mode.PROTECTED else (
            ("plain", False),
        ):  # fmt: skip
            output = sweep_output(protected=protected)
            text = json.dumps(output)
            swept = parse_sweep(text)
            trial.attach(f"{guest}.{swept.way}.json", text)
            trial.draw(MemoryMap(guest, swept.way, swept.size, swept.rate, spans(swept.fates())))
            listing.append(sweep_checks(swept, "EFAULT", physical=False))
        trial.legitimate(*listing, protected=True if len(listing) > 1 else None)


def _sentence(claim: Claim) -> str:
    return f"Of {claim.id}."


def sweep_output(*, protected: bool) -> dict[str, Any]:
    """What a sweep of a guest of 16 pages prints: four of them are shared."""
    listing = [[0, 12, "EFAULT"], [12 * PAGE_SIZE, 4, None]] if protected else [[0, 16, None]]
    shared = [[12 * PAGE_SIZE, 4]] if protected else []
    return {
        "way": "process_vm_readv",
        "protected": protected,
        "slots": [[0, 16, 0x7F0000000000, False, False]],
        "shared": shared,
        "still_shared": shared,
        "account": shared if protected else None,
        "later_account": shared if protected else None,
        "absent": [],
        "found": listing,
        "bytes": PAGE_SIZE,
        "ns": 1_000_000,
    }


def _as_contracted(outcome: Outcome, canary: bytes) -> dict[str, Any]:
    data = canary[: outcome.leaked]
    if not data and (outcome.returned or 0) > 0 and outcome.page_after is None:
        data = bytes(outcome.returned or 0)
    names = ("returned", "errno", "signal", "si_code", "page_after")
    return {**{name: getattr(outcome, name) for name in names}, "data": data}


def small_report(reports: Path, key: Ed25519PrivateKey | None, **story: Any) -> Path:
    """A report of the contract above, from begin to end; signed if there is a key."""
    told_story = Story(reports, **story)
    told_story.tell()
    told_story.record = dataclasses.replace(told_story.record, ended=now() if told_story.record.ended else "")
    return told_story.end(key)


@functools.cache
def contract_sha256(text: str = CONTRACT, evidence: str = "") -> str:
    """Of a contract."""
    named = {needs.FILE: evidence.encode()} if evidence else {}
    return contract_files.sha256({"contract.toml": text.encode(), **named})
