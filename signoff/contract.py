# SPDX-License-Identifier: GPL-2.0-or-later
"""The reviewed table claim x mode -> exact outcome; :mod:`signoff.contract_files` reads it.

It cannot declare a leak a success: a protected outcome of an attack leaks nothing and changes nothing, and its control
must reach the page. Whoever writes the table is stopped here, before a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, field_validator, model_validator

from common import releases
from signoff.host_facts import HostFacts
from signoff.needs import Needs
from signoff.observation import PAGE_SIZE, After, Page, State
from signoff.outcome import KernelRange, On, Outcome


class Mode(StrEnum):
    """Which column of the contract a run is judged by."""

    PLAIN = "plain"
    """The guest did not ask for protection: every probe must get through. It checks the controls."""
    PROTECTED = "protected"
    """The guest asked for protection. Only this is a sign-off."""


class Kind(StrEnum):
    """What a claim is about."""

    ATTACK = "attack"
    """A way to the guest's memory that must fail."""
    BOUNDARY = "boundary"
    """A way that is documented to be open."""
    LEGITIMATE = "legitimate"
    """Something that must go on working."""
    ORACLE = "oracle"
    """What a look at all of a guest's memory must find."""
    HEALTH = "health"
    """The host and the guest must be well during the whole run."""


class Class(StrEnum):
    """Who attacks, or what must work. Each has a heading and a sentence for the reader of the report."""

    HOST_USER = "host-user"
    KERNEL_USER_COPY = "kernel-user-copy"
    KERNEL_GUP = "kernel-gup"
    KERNEL_ADDRESS = "kernel-address"
    KVM = "kvm"
    MEMORY_MANAGEMENT = "memory-management"
    COMPROMISE = "compromise"
    EMULATION = "emulation"
    GUEST_MEMORY = "guest-memory"
    PARAVIRTUAL = "paravirtual"
    DEVICES = "devices"
    GUEST_LIFE = "guest-life"
    NO_COLLATERAL = "no-collateral"
    HEALTH = "health"

    @property
    def heading(self) -> str:
        """A few words."""
        return _CLASSES[self][0]

    @property
    def sentence(self) -> str:
        """What belongs to the class."""
        return _CLASSES[self][1]


_CLASSES = {
    Class.HOST_USER: (
        "Host user space",
        "A compromised VMM reads or writes guest memory with its own loads and stores, through its own mapping.",
    ),
    Class.KERNEL_USER_COPY: (
        "Host kernel, induced, by user copy",
        "A system call makes the host kernel copy from or to the VMM's mapping (copy_from_user, copy_to_user).",
    ),
    Class.KERNEL_GUP: (
        "Host kernel, induced, by get_user_pages",
        "A system call makes the host kernel look up the page behind the VMM's mapping and use it.",
    ),
    Class.KERNEL_ADDRESS: (
        "Host kernel, by its own address",
        "Code in the host kernel reads the page where the kernel itself maps it, as a stray pointer or a reader does.",
    ),
    Class.KVM: ("Through KVM", "The VMM uses KVM's own interface to get at guest memory."),
    Class.MEMORY_MANAGEMENT: (
        "Through memory management",
        "The host moves, merges, swaps, copies or frees the page, and its bytes go along.",
    ),
    Class.COMPROMISE: (
        "Full compromise and hardware",
        "An attacker who runs arbitrary code in the host kernel, or owns a device: documented to be open.",
    ),
    Class.EMULATION: ("Instruction emulation", "KVM reads and writes guest memory to carry out an instruction."),
    Class.GUEST_MEMORY: (
        "Memory management of the guest",
        "KVM walks the guest's page tables and keeps its state in its memory, in every mode of the processor.",
    ),
    Class.PARAVIRTUAL: ("Paravirtual interfaces", "KVM and the guest share data: clock, steal time, hypercalls."),
    Class.DEVICES: ("Devices", "QEMU's devices move data to and from the guest."),
    Class.GUEST_LIFE: ("Life of a guest", "Boot, reset, stop, memory that comes and goes, the end."),
    Class.NO_COLLATERAL: ("No collateral", "The host's kernel does for everybody else what the stock kernel does."),
    Class.HEALTH: ("Host and guest", "Nothing broke in the host or in the guest while all this was tried."),
}
_WORKS = {Class.EMULATION, Class.GUEST_MEMORY, Class.PARAVIRTUAL, Class.DEVICES, Class.GUEST_LIFE, Class.NO_COLLATERAL}
_BY_KIND = {
    Kind.ATTACK: {
        Class.HOST_USER,
        Class.KERNEL_USER_COPY,
        Class.KERNEL_GUP,
        Class.KERNEL_ADDRESS,
        Class.KVM,
        Class.MEMORY_MANAGEMENT,
    },
    Kind.BOUNDARY: set(Class) - _WORKS - {Class.HEALTH},
    Kind.LEGITIMATE: _WORKS,
    Kind.ORACLE: {Class.HOST_USER, Class.KERNEL_GUP, Class.KERNEL_ADDRESS, Class.MEMORY_MANAGEMENT, Class.KVM},
    Kind.HEALTH: {Class.HEALTH},
}

_REASON = 3  # words
_LEAST = 4  # bytes that a control must leak: the shortest that any is, a load of four bytes
_WORD = ConfigDict(extra="forbid", frozen=True)


class Condition(StrEnum):
    """A fact of a run that makes a claim impossible to try. The contract names it, and the harness finds it."""

    NO_VFIO = "no-vfio"
    NO_PROTECTION_KEYS = "no-protection-keys"
    NO_AVX = "no-avx"
    NO_AVX2 = "no-avx2"
    NO_SMAP = "no-smap"
    NO_SVM = "no-svm"
    NO_VMX = "no-vmx"
    ONE_PROCESSOR = "one-processor"
    NO_TASK_SWITCH_EXITS = "no-task-switch-exits"
    NO_SELFTESTS = "no-selftests"
    REAL_MACHINE = "real-machine"
    BY_BOCHS = "by-bochs"

    @property
    def words(self) -> str:
        """What is the case where it holds."""
        return _CONDITIONS[self]

    def holds(self, tier: str | None, host: Mapping[str, str]) -> bool:
        """Whether it holds.

        :param tier: of the host; None: not known. :param host: what is known of it. What is not known holds nothing.
        """
        if self is Condition.REAL_MACHINE:
            return tier == "bare-metal"
        if self is Condition.BY_BOCHS:
            return HostFacts.by_bochs(tier, host)
        if self is Condition.NO_TASK_SWITCH_EXITS:
            return tier == "emulated" and not HostFacts.by_bochs(tier, host)
        if self is Condition.ONE_PROCESSOR:
            return host.get("cpus") == "1"
        name, word = _LACKS[self]
        return name in host and word not in host[name].split(", ")


_CONDITIONS = {
    Condition.NO_VFIO: "the host has no VFIO (/dev/vfio/vfio)",
    Condition.NO_PROTECTION_KEYS: "the host's processor has no protection keys",
    Condition.NO_AVX: "the host's processor has no AVX",
    Condition.NO_AVX2: "the host's processor has no AVX2",
    Condition.NO_SMAP: "the host's processor has no SMAP",
    Condition.NO_SVM: "the host's processor has no SVM, by which the claim's hypervisor runs its guest",
    Condition.NO_VMX: "the host's processor has no VMX, by which the claim's hypervisor runs its guest",
    Condition.ONE_PROCESSOR: "the host has one processor, and the claim is about what another one does meanwhile",
    Condition.NO_TASK_SWITCH_EXITS: "QEMU's emulation of SVM carries out task switches by itself",
    Condition.NO_SELFTESTS: "the kernel is built without the layer of its own selftests (--selftests)",
    Condition.REAL_MACHINE: "the host is a real machine: nobody can look at its memory or its devices from outside",
    Condition.BY_BOCHS: "Bochs emulates the host, and has no monitor by which its memory or its devices are seen",
}
_LACKS = {
    Condition.NO_VFIO: ("devices", "vfio/vfio"),
    Condition.NO_PROTECTION_KEYS: ("features", "pku"),
    Condition.NO_AVX: ("features", "avx"),
    Condition.NO_AVX2: ("features", "avx2"),
    Condition.NO_SMAP: ("features", "smap"),
    Condition.NO_SVM: ("features", "svm"),
    Condition.NO_VMX: ("features", "vmx"),
    Condition.NO_SELFTESTS: ("kernel's layers", "selftests"),
}
"""Conditions that hold where a list of the host's lacks a word: name of the list and the word."""


class Skip(BaseModel):
    """When a claim may be SKIP: for a condition, or on kernels that do not have what its probe uses. Else it may not.

    :ivar when: conditions of which one is enough. :ivar kernel: the range of releases, such as ``<6.8``.
    :ivar reason: what these do not have.
    """

    model_config = _WORD

    when: tuple[Condition, ...] = ()
    kernel: KernelRange | None = None
    reason: str = ""

    def case(self, holds: Callable[[Condition], bool], host: HostFacts) -> tuple[str, str] | None:
        """What of it is the case: its name in a report, and in words; None: nothing.

        :param holds: whether a condition is the case. :param host: what is not known of it makes nothing the case.
        """
        for condition in self.when:
            if holds(condition):
                return condition, condition.words
        if self.kernel is not None and host.kernel is not None and releases.fits(host.kernel, self.kernel):
            return f"kernel {self.kernel}", f"the host's kernel is {self.kernel}: {self.reason}"
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """What may be the case, as a report names it."""
        kernel = None if self.kernel is None else f"kernel {self.kernel}"
        return tuple(name for name in (*self.when, kernel) if name is not None)

    @field_validator("when", mode="before")
    @classmethod
    def _is_one_or_several(cls, stated: object) -> object:
        if stated == []:
            raise ValueError("name a condition, or leave out 'when'")
        return (stated,) if isinstance(stated, str) else stated

    @model_validator(mode="after")
    def _says_for_what(self) -> Self:
        if not self.when and self.kernel is None:
            raise ValueError("state a condition ('when') or a range of kernels ('kernel')")
        if (self.kernel is None) is not (len(self.reason.split()) < _REASON):
            raise ValueError(f"reason: say what these kernels do not have, in {_REASON} words or more")
        return self


class _Claim(BaseModel):
    model_config = _WORD

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]+$")]
    threat: Annotated[Class, Field(alias="class")]
    source: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]
    skip: Skip | None = None

    @property
    def sentence(self) -> str:
        """The claim's name as words, for when its test cannot be asked."""
        words = self.id.replace("_", " ")
        return f"{words[0].upper()}{words[1:]}."

    def row(self, host: HostFacts) -> str:  # noqa: ARG002
        """Which of the rows of its outcome is for a host, in a few words; empty: none, the default holds."""
        return ""

    def by(self, row: str) -> Self:
        """The claim as a row states it.

        :param row: in a few words; empty: the default. :raises ValueError: it has no such row.
        """
        if row:
            raise ValueError(f"{self.id} has no outcome for {row!r}")
        return self

    @property
    def why(self) -> str:
        """The reason of the outcome, as the report prints it."""
        return self.reason


class ProbeClaim(_Claim):
    """A claim about a way to guest memory.

    :ivar pages: the kinds of page on which the probe must have run, all of them. :ivar narrowed: why not on every kind.
    :ivar shared: outcome of a control on a shared page; not stated: as ``plain``.
    :ivar on: rows for hosts on which the outcome differs. At most one is for any host.
    """

    kind: Literal[Kind.ATTACK, Kind.BOUNDARY]
    pages: tuple[Page, ...] = tuple(Page)
    narrowed: str = ""
    plain: Outcome
    protected: Outcome
    shared: Outcome | None = None
    on: Annotated[tuple[On, ...], Field(strict=False)] = ()

    def row(self, host: HostFacts) -> str:
        """Which of the rows of its outcome is for a host, in a few words; empty: none, the default holds."""
        return next((row.words for row in self.on if row.fits(host)), "")

    def by(self, row: str) -> Self:
        """The claim as a row states it; its reason says so.

        :param row: in a few words; empty: the default. :raises ValueError: it has no such row.
        """
        if not row:
            return self
        for variant in self.on:
            if variant.words == row:
                reason = f"{variant.reason} This is the outcome for {row}."
                return self.model_copy(
                    update={"source": variant.source, "reason": reason, "on": (), **variant.outcomes}
                )
        raise ValueError(f"{self.id} has no outcome for {row!r}")

    @property
    def why(self) -> str:
        """The reason of the outcome, and why not every kind of page is tried."""
        if not self.narrowed:
            return self.reason
        return f"{self.reason} Tried on the {' and '.join(self.pages)} page alone: {self.narrowed}."

    def outcome(self, state: State) -> Outcome:
        """What a probe of a page in that state must be."""
        if state is State.PRIVATE:
            return self.protected
        if state is State.SHARED and self.shared is not None:
            return self.shared
        return self.plain

    @model_validator(mode="after")
    def _proves_something(self) -> ProbeClaim:
        _class_fits(self.kind, self.threat)
        if not self.pages or len(set(self.pages)) != len(self.pages):
            raise ValueError("pages: name each kind of page once, and at least one")
        if (set(self.pages) != set(Page)) is not bool(self.narrowed.strip()):
            raise ValueError("narrowed: give the reason if not every kind of page is tried, and only then")
        if self.narrowed and len(self.narrowed.split()) < _REASON:
            raise ValueError(f"narrowed: {self.narrowed!r} is too short a reason: give {_REASON} words or more")
        for variant, other in itertools.combinations(self.on, 2):
            if variant.overlaps(other):
                raise ValueError(
                    f"on: {variant.words} and {other.words} overlap: some host fits both; let each host fit at most one"
                )
        _outcomes_prove_something(self)
        for row in self.on:
            try:
                _outcomes_prove_something(self.by(row.words))
            except ValueError as error:
                raise ValueError(f"on: {row.words}: {error}") from error
        return self


def _outcomes_prove_something(claim: ProbeClaim) -> None:
    for name, control in (("plain", claim.plain), ("shared", claim.outcome(State.SHARED))):
        if not control.reaches:
            raise ValueError(f"{name}: a control must leak, or leave the page overwritten; this one proves nothing")
        if 0 < control.leaked < _LEAST:
            raise ValueError(f"{name}: a control must leak {_LEAST} bytes or more; fewer could be there by chance")
    if claim.kind is Kind.ATTACK:
        _refuses(claim.plain, claim.protected)
        for control in (claim.plain, claim.outcome(State.SHARED)):
            _check_distinct(control, claim.protected)


def _check_distinct(control: Outcome, protected: Outcome) -> None:
    """Of a probe that ends on both in the same way only what it brings tells them apart: it must all be looked at."""
    same = control.ending == protected.ending
    least = min(protected.returned or 0, PAGE_SIZE)
    if same and control.page_after is None and control.leaked < least:
        raise ValueError(
            f"protected: it returns {protected.returned} as the control does, which leaks {control.leaked} bytes: "
            f"let the control leak {least}, or state how they differ"
        )


def _refuses(plain: Outcome, protected: Outcome) -> None:
    if protected.leaked:
        raise ValueError("protected: an attack must leak nothing (a way that is open by design is a boundary)")
    if protected.page_after not in (None, After.INTACT):
        raise ValueError("protected: an attack must leave the page intact")
    if plain.page_after is After.OVERWRITTEN and protected.page_after is None:
        raise ValueError("protected: the control overwrites the page, so state page_after = 'intact'")
    if (protected.returned, protected.signal) == (None, None):
        raise ValueError("protected: state how the attack ends: returned, or signal and si_code")


class WorkClaim(_Claim):
    """A claim that something works, is found, or stays well; or that a boundary is open that shows no canary.

    Its outcome is that every check is right. There is no other to contract for.
    """

    kind: Literal[Kind.LEGITIMATE, Kind.ORACLE, Kind.HEALTH, Kind.BOUNDARY]

    @model_validator(mode="after")
    def _class_fits_kind(self) -> WorkClaim:
        _class_fits(self.kind, self.threat)
        if self.skip is not None and self.kind is Kind.HEALTH:
            raise ValueError("skip: every run must check the health of host and guest")
        return self


def _class_fits(kind: Kind, threat: Class) -> None:
    if threat not in _BY_KIND[kind]:
        raise ValueError(
            f"class: {threat} does not belong to the kind {kind}; choose one of: {', '.join(sorted(_BY_KIND[kind]))}"
        )


Claim = ProbeClaim | WorkClaim
PROBE, WORK = "probe", "work"
_OUTCOMES = ("plain", "protected", "shared")


def _sort_of(claim: Any) -> str:
    """Whether an entry is a probe's. Of the boundaries those are that state an outcome."""
    if isinstance(claim, Claim):
        return PROBE if isinstance(claim, ProbeClaim) else WORK
    entry = claim if isinstance(claim, dict) else {}
    states = any(name in entry for name in _OUTCOMES)
    return PROBE if entry.get("kind") == Kind.ATTACK or (entry.get("kind") == Kind.BOUNDARY and states) else WORK


CLAIM: TypeAdapter[Claim] = TypeAdapter(
    Annotated[Annotated[ProbeClaim, Tag(PROBE)] | Annotated[WorkClaim, Tag(WORK)], Discriminator(_sort_of)]
)
"""Reads one claim."""


@dataclass(frozen=True, slots=True)
class Contract:
    """All claims, in the order of the report.

    :ivar needs: what the evidence of each must hold; of a claim that is not there the contract does not say.
    """

    claims: tuple[Claim, ...]
    needs: Needs = field(default_factory=dict)

    def find(self, name: str) -> Claim | None:
        """The claim with that id, or None."""
        return next((claim for claim in self.claims if claim.id == name), None)
