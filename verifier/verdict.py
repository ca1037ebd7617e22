# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report says of the whole run: what makes it no proof, its sentence, and what a claim without a line says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from verifier import contract as contracts
from verifier.run import KILLED, NO_HEALTH, UNKNOWN, Run

EXIT = {"PROTECTED": 0, "CONTROLS HOLD": 0, "NOT PROTECTED": 1, "NOT USABLE": 1, "CONTROLS BROKEN": 1, "NOT PROVEN": 2}
SENTENCE = "Every attack was refused exactly as contracted, while the same probe got through in its control."
_NOBODY = "no part of the run has a verdict on it"


def problems(run: Run) -> list[str]:
    """What a report names as making the run as a whole no proof, in the report's order."""

    def find_problems() -> Iterator[str]:
        record = run.record
        yield from map(str, record["problems"])
        if record["given_up"]:
            yield record["given_up"]
        if not record["ended"] or not run.events or run.events[-1]["event"] != "end":
            yield KILLED
        if record["kernel"] is None or record["tier"] is None:
            yield UNKNOWN
        if not any(claim.kind == "health" for claim in run.claims.values()):
            yield NO_HEALTH

    return list(dict.fromkeys(find_problems()))


def sentence(run: Run, word: str) -> str:
    """The sentence beside a verdict."""
    if run.record["interrupted"]:
        failed = "FAIL" in run.status.values()
        return f"The run was interrupted.{' A claim had already failed.' if failed else ''}"
    if word == "PROTECTED":
        return SENTENCE
    if word == "CONTROLS HOLD":
        return "Every probe gets through to a guest that is not protected."
    if word == "NOT PROVEN":
        return f"Nothing failed, but {'; '.join(_unproven(run))}."
    open_ = "; ".join(_unproven(run, failed=True))
    return f"{_failure_text(run, word)} Besides: {open_}." if open_ else _failure_text(run, word)


def _failure_text(run: Run, word: str) -> str:
    kinds = [run.claims[name].kind for name, status in run.status.items() if status == "FAIL"]
    against = sum(kind in contracts.PROTECTION for kind in kinds)
    if word == "CONTROLS BROKEN":
        return f"{len(kinds)} of {len(run.claims)} probes or paths misbehave in a plain guest."
    if word == "NOT PROTECTED":
        of = sum(claim.kind in contracts.PROTECTION for claim in run.claims.values())
        return f"{against} of {of} claims about the protection failed."
    return f"No attack is known to get through, but {len(kinds)} legitimate paths or health checks failed."


def _unproven(run: Run, *, failed: bool = False) -> list[str]:
    rows = [(claim.kind, run.status[name], row_of(run, name)["why"]) for name, claim in run.claims.items()]
    open_ = sum(
        status in ("ERROR", "MISS") or (status == "SKIP" and (not why or kind == "health"))
        for kind, status, why in rows
    )  # fmt: skip
    reasons = [*([f"{open_} of {len(rows)} claims are not proven"] if open_ else []), *problems(run)]
    attacks = [status for kind, status, _ in rows if kind == "attack"]
    if failed:
        return reasons
    if "PASS" not in attacks:
        reasons.append("no attack was tried and refused" if run.mode == "protected" else "no probe was tried")
    elif 2 * attacks.count("SKIP") > len(attacks):
        reasons.append(f"{attacks.count('SKIP')} of {len(attacks)} attacks were skipped")
    return reasons


def row_of(run: Run, name: str) -> dict[str, Any]:
    """A claim's line; of a claim that has none, what a report says of it."""
    if name in run.rows:
        return run.rows[name]
    claim = run.claims[name]
    nobody = _NOBODY if "fleet.json" in run.tree else KILLED
    words = name.replace("_", " ")
    return {
        **dict.fromkeys(("observed", "control", "shared", "command", "skip", "row"), ""),
        **{key: [] for key in ("evidence", "runs", "checks", "maps")},
        "id": name,
        "sentence": run.sentences.get(name) or f"{words[0].upper()}{words[1:]}.",
        "status": "MISS",
        "why": f"not run: {nobody}",
        "expected": claim.expected(run.mode),
        "seconds": 0.0,
        "protected": None,
        "controlled": False,
    }


def count_of(words: Collection[Any], singular: str, many: str) -> str:
    """A number of things."""
    return f"{len(words)} {singular if len(words) == 1 else many}"
