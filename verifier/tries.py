# SPDX-License-Identifier: GPL-2.0-or-later
"""The probes and the checks of a claim, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from verifier.contract import outcome_words
from verifier.markup import hex_dump, safe, scroll


def probes(runs: Sequence[dict[str, Any]], *, plain: bool) -> Iterator[str]:
    """How each probe ended."""
    if not plain:
        yield scroll("How the probe ended on each kind of page")
        yield '<table class="runs sides">'
        yield (
            "<thead><tr><th>Page</th><th>Under test</th><th>Control: plain</th><th>Control: shared</th></tr></thead>"
        )
        yield "<tbody>"
        for kind in dict.fromkeys(run["page"] for run in runs):
            cells = "".join(f"<td>{safe(_ending_of(runs, kind, side)) or 'not run'}</td>" for side in range(3))
            yield f"<tr><td>{safe(kind)}</td>{cells}</tr>"
        yield from ("</tbody>", "</table>", "</div>")
    yield scroll("Runs of the probe")
    yield '<table class="runs">'
    yield (
        "<thead><tr><th>Role</th><th>Page</th><th>State</th><th>Call</th><th>Outcome</th>"
        '<th class="n">Bytes got</th><th class="n">Canary bytes</th><th>Canary</th></tr></thead>'
    )
    yield "<tbody>"
    for run in runs:
        cells = "".join(f"<td>{safe(run[name])}</td>" for name in ("role", "page", "state"))
        yield f'<tr class="first">{cells}<td><code>{safe(run["call"])}</code></td>'
        yield (
            f'<td>{safe(_words(run))}</td><td class="n">{run["got"]}</td><td class="n">{run["leaked"]}</td>'
            f"<td><code>{safe(run['canary'])}</code></td></tr>"
        )
        reach = safe(", ".join(run["reach"])) or "nothing shows where it was aimed"
        address = f"; si_addr {safe(run['si_addr'])}" if run.get("si_addr") else ""
        facts = "".join(f"; {safe(name)}: {safe(value)}" for name, value in run.get("facts", ()))
        yield f'<tr class="aim"><td></td><td colspan="7" class="mono">{reach}{address}{facts}</td></tr>'
    yield from ("</tbody>", "</table>", "</div>")
    if heads := [run for run in runs if run["head"]]:
        yield '<details class="dump"><summary>First bytes of what leaked</summary>'
        for head in heads:
            role, kind = safe(head["role"]), safe(head["page"])
            yield f'<div class="soft">{role}, {kind} page, canary {safe(head["canary"])}</div>'
            yield f'<pre tabindex="0">{safe(hex_dump(head["head"]))}</pre>'
        yield "</details>"


def checks(checks: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What was checked."""
    yield scroll("Checks")
    yield '<table class="runs">'
    yield "<thead><tr><th>Role</th><th>Check</th><th>Expected</th><th>Got</th><th>Right</th></tr></thead>"
    yield "<tbody>"
    for check in checks:
        expected, got = (f"<td><code>{safe(check[name])}</code></td>" for name in ("expected", "got"))
        right = "yes" if check["right"] else "NO"
        yield f"<tr><td>{safe(check['role'])}</td><td>{safe(check['name'])}</td>{expected}{got}<td>{right}</td></tr>"
    yield from ("</tbody>", "</table>", "</div>")


def _words(run: dict[str, Any]) -> str:
    names = ("returned", "errno", "signal", "si_code", "leaked", "page_after")
    return outcome_words(*(run[name] for name in names))


def _ending_of(runs: Sequence[dict[str, Any]], kind: str, side: int) -> str:
    """How probes of a kind of page ended under test (0), on the plain control (1), on the shared one (2)."""
    endings: dict[str, None] = {}
    for run in runs:
        its = 0 if run["role"] == "subject" else 2 if run["state"] == "shared" else 1
        if its == side and run["page"] == kind:
            endings[f"{_words(run)} ({run['state']})"] = None
    return "; ".join(endings)
