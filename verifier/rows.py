# SPDX-License-Identifier: GPL-2.0-or-later
"""Outcomes of a claim that differ: by kernel release, vendor of the processor, what runs the host's instructions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
"""By what the processor says of itself."""
ACCELERATORS = {"emulated": "tcg", "nested": "kvm", "bare-metal": "none"}
"""By the tier of the host. One that Bochs emulates says so beside."""
BOCHS = "bochs"
FACTS = ("kernel", "vendor", "accelerator")
_RELEASE = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_BOUND = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})")
_FITS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    "==": lambda value, bound: value == bound,
    "!=": lambda value, bound: value != bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}
_Bounds = list[tuple[str, tuple[int, ...]]]


def facts(record: dict[str, Any]) -> dict[str, str]:
    """What a run's record states of the host under test; what it does not state is missing."""
    kernel = record["kernel"] or {}
    values = {
        "kernel": kernel.get("release", ""),
        "vendor": VENDORS.get(str(record["host"].get("processor", "")).partition(",")[0], ""),
        "accelerator": accelerator(record["tier"], record["host"]),
    }
    return {name: value for name, value in values.items() if value}


def accelerator(tier: str | None, host: dict[str, Any]) -> str:
    """What runs a host's instructions; empty: not known.

    :param host: what the record says of it.
    """
    by_bochs = tier == "emulated" and str(host.get("emulator", "")).startswith("Bochs ")
    return BOCHS if by_bochs else ACCELERATORS.get(tier or "", "")


def exist(row: dict[str, str]) -> bool:
    """Whether there are hosts that a row can be for, and it does not mean all.

    :raises ValueError: its range of kernels is none.
    """
    words = {"vendor": VENDORS.values(), "accelerator": [*ACCELERATORS.values(), BOCHS]}
    return bool(row) and all(meet(value) if name == "kernel" else value in words[name] for name, value in row.items())


def fits(row: dict[str, str], host_facts: dict[str, str]) -> bool:
    """Whether a row is for a host.

    :param row: what it states. :param host_facts: facts of the host.
    """
    return all(
        name in host_facts and (lies_in(host_facts[name], value) if name == "kernel" else host_facts[name] == value)
        for name, value in row.items()
    )


def overlap(host_facts: dict[str, str], other: dict[str, str]) -> bool:
    """Whether two rows may be for the same host."""
    shared = host_facts.keys() & other.keys()
    return all(
        meet(host_facts[name], other[name]) if name == "kernel" else host_facts[name] == other[name] for name in shared
    )


def words(row: dict[str, str]) -> str:
    """A row in a few words."""
    return ", ".join(f"{name} {''.join(row[name].split())}" for name in FACTS if name in row)


def lies_in(release: str, text: str) -> bool:
    """Whether a kernel's release lies in a range; what is no release lies in none.

    :raises ValueError: it is no range.
    """
    match = _RELEASE.match(release)
    return match is not None and _all(_three(match.groups()), _bounds(text))


def meet(*texts: str) -> bool:
    """Whether there is a release that lies in all of these ranges.

    :raises ValueError: one is no range.
    """
    bounds = [bound for text in texts for bound in _bounds(text)]
    # From one bound to the next all releases fare alike, but for the bound itself.
    tried = [(0, 0, 0), *(bound for _, bound in bounds), *((*bound[:2], bound[2] + 1) for _, bound in bounds)]
    return any(_all(version, bounds) for version in tried)


def _all(value: tuple[int, ...], bounds: _Bounds) -> bool:
    return all(_FITS[sign](value, bound) for sign, bound in bounds)


def _bounds(text: str) -> _Bounds:
    bounds = []
    for clause in text.split(","):
        match = _BOUND.fullmatch(clause.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a range of releases")
        bounds.append((match[1], _three(match[2].split("."))))
    return bounds


def _three(parts: Any) -> tuple[int, ...]:
    numbers = [int(part or 0) for part in parts]
    return tuple([*numbers, 0, 0][:3])
