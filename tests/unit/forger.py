# SPDX-License-Identifier: GPL-2.0-or-later
"""A forger who has the signer's key and the verifier's own program: it changes one value, and makes all else anew.

From a seed it chooses a document of a report, a place in it, and a change. Then it makes hashes, journal, lines, forms
and signature anew, and the forms by the verifier's own makers, so that nothing is refused only because it is stale::

    python -m tests.unit.forger [SEED] [COUNT]

prints each change after which the verifier still says PROTECTED.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from signoff.evidence import Evidence
from signoff.keys import put_key
from tests.unit import fleet_samples
from tests.unit.report_samples import KEY, contract_sha256, small_report
from tests.unit.test_tampering import MINE, chain, digest, mix, payload
from tests.unit.test_tampering_fleet import fleet
from verifier import exports, forms, merged, page, sweeps
from verifier.exports import Derivation
from verifier.report import TrustAnchors, Verification, derive, verify
from verifier.text import UnsoundError, same
from verifier.tree import load
from verifier.verdict import EXIT, problems, row_of, sentence

Json = Any
Place = tuple[str | int, ...]


# --- making anew


def sums_of_parts(folder: Path) -> None:
    """The journal of a merged report has each part as it is."""
    path = folder / "journal.jsonl"
    events = [json.loads(event) for event in path.read_text().splitlines()]
    for event in events:
        sums = folder / "parts" / str(event.get("run")) / "SHA256SUMS"
        if event["event"] == "part" and sums.exists():
            event["sums"] = digest(sums)
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))


def anew(folder: Path) -> None:
    """Make all of a report anew; each part of it first."""
    for part in sorted((folder / "parts").glob("*")):
        if (part / "attestation.json").exists():
            anew(part)
    try:
        sums_of_parts(folder)
        chain(folder)
    except Exception:  # noqa: BLE001  of what cannot be read nobody makes a chain
        pass
    put_key(folder, KEY)
    try:
        derivation = derive(load(folder), MINE)
        formed(folder, derivation)
    except Exception:  # noqa: BLE001  of what cannot be read nobody makes a form
        pass
    signed(folder)


def formed(folder: Path, report: Derivation) -> None:
    """Write the forms as the verifier wants them."""

    def junit(element_content: dict[str, Any]) -> ET.Element:
        element = ET.Element(element_content["tag"], element_content["attributes"])
        element.text = element_content["text"] or None
        element.extend(junit(each) for each in element_content["parts"])
        return element

    (folder / "signoff.json").write_text(f"{json.dumps(document(report), indent=1)}\n")
    tree = ET.tostring(junit(forms._junit(report)), encoding="utf-8", xml_declaration=True)
    (folder / "junit.xml").write_bytes(tree + b"\n")
    (folder / "signoff.tap").write_text("\n".join(forms._tap(report)))
    for name, content in (("signoff.sarif", forms._sarif(report)), ("kcidb.json", forms._kcidb(report))):
        (folder / name).write_text(f"{json.dumps(content, indent=1)}\n")
    (folder / "signoff.html").write_text(page.render_page(report))


def document(report: Derivation) -> dict[str, Any]:
    """``signoff.json``."""
    run, before = report.run, json.loads(report.run.tree.read("signoff.json"))
    record = run.record
    return {
        **before,
        "verdict": report.word,
        "exit_code": EXIT[report.word],
        "summary": sentence(run, report.word),
        "problems": problems(run),
        "contract": report.contract,
        "kernel": record["kernel"] and {**record["kernel"], "series": record["series"]},
        **{name: record[name] for name in ("mode", "tier", "host", "made_of")},
        "counts": report.counts,
        "signing_key": report.key,
        "logs": run.logs,
        "run": {
            "id": record["run"],
            **{name: record[name] for name in ("started", "command", "commit", "durations")},
            "ended": record["ended"] or None,
        },
        "claims": [
            {
                **{name: value for name, value in row_of(run, claim.id).items() if name != "_time"},
                "kind": claim.kind,
                "class": claim.threat,
                "source": claim.source,
                "reason": claim.why,
                "mode": run.mode,
            }
            for claim in run.claims.values()
        ],
        **({} if report.fleet is None else {"fleet": merged.document(report.fleet)}),
    }


def signed(folder: Path) -> None:
    """Make checksums, statement and signature anew."""
    Evidence(folder).seal()
    try:
        derivation = derive(load(folder), MINE)
        stated: dict[str, Any] | None = exports.statement_content(derivation)
    except Exception:  # noqa: BLE001  as above
        stated = None

    def fresh(statement: dict[str, Any]) -> None:
        if stated is not None:
            statement["predicate"] = stated
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = digest(folder / subject["name"])

    payload(fresh)(folder)


# --- changes


def places(value: Json, at: Place = ()) -> Iterator[Place]:
    """All places in a document."""
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in pairs:
        yield from places(entry, (*at, key))


def changed(value: Json, choice: random.Random) -> tuple[str, Json]:
    """A value of another content: how it was changed, and what it is now."""
    if isinstance(value, dict):
        if value and choice.random() < 0.5:
            dropped = choice.choice(sorted(value))
            return f"without {dropped}", {name: entry for name, entry in value.items() if name != dropped}
        return "with a field more", {**value, "audit": "passed on SEV-SNP"}
    if isinstance(value, list):
        kinds: list[tuple[str, Json]] = [("with a word more", [*value, "passed on SEV-SNP"])]
        if value:
            at = choice.randrange(len(value))
            kinds += [
                ("with one twice", [*value, copy.deepcopy(value[at])]),
                ("with one less", value[:at] + value[at + 1 :]),
                ("as a word", "passed on SEV-SNP"),
            ]
        if len(value) > 1 and value != value[::-1]:
            kinds.append(("backwards", value[::-1]))
        return choice.choice(kinds)
    if isinstance(value, bool) or value is None:
        return choice.choice([("turned round", not value), ("as a word", "yes"), ("as a number", int(not value))])
    if isinstance(value, int | float):
        others = [value + 1, -value - 1, 10**9, str(value), value == 0]
        others += [float(value)] if isinstance(value, int) else [int(value), value * 2]
        other = choice.choice(
            [candidate for candidate in others if type(candidate) is not type(value) or candidate != value]
        )
        return f"as {other!r}", other
    return _reworded(str(value), choice)


def _reworded(text: str, choice: random.Random) -> tuple[str, Json]:
    kinds: list[tuple[str, Json]] = [
        ("with words behind", f"{text}; passed on SEV-SNP"),
        ("with words before", f"Audited: {text}"),
        ("emptied", ""),
        ("as another word", "audited"),
        ("with a control character", f"{text}\x1b[2J"),
        ("with text that runs backwards", f"\u202e{text}"),
        ("as a list", [text]),
        ("as nothing", None),
    ]
    if match := re.search(r"[0-9a-f]{32,}", text):
        digits = match[0]
        other = f"{'0' if digits[0] != '0' else '1'}{digits[1:]}"
        kinds += [
            ("with another digit", text.replace(digits, other)),
            ("in capitals", text.replace(digits, digits.upper())),
        ]
    if letter := next((letter for letter in "aeopcxy" if letter in text), ""):
        kinds.append(("with a letter that looks alike", text.replace(letter, chr(LOOK_ALIKE[letter]), 1)))
    return choice.choice([kind for kind in kinds if kind[1] != text])


LOOK_ALIKE = {"a": 0x430, "e": 0x435, "o": 0x43E, "p": 0x440, "c": 0x441, "x": 0x445, "y": 0x443}


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a report that a forger changes.

    :ivar read: its content in a report's folder. :ivar write: puts another one there. :ivar far: whether all is made
        anew afterwards, or only signed.
    """

    name: str
    read: Callable[[Path], Json]
    write: Callable[[Path, Json], object]
    far: bool = True


def of_json(name: str, *, far: bool = True) -> Document:
    """A file that is one document."""

    def write(folder: Path, content: Json) -> None:
        end = "" if name == "record.json" else "\n"
        (folder / name).write_text(f"{json.dumps(content, indent=1)}{end}")

    return Document(name, lambda folder: json.loads((folder / name).read_text()), write, far)


def of_lines(name: str) -> Document:
    """A file that is a document a line."""

    def write(folder: Path, content: Json) -> None:
        lines = content if isinstance(content, list) else [content]
        (folder / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    return Document(name, lambda folder: [json.loads(line) for line in (folder / name).read_text().splitlines()], write)


def of_evidence(claim: str, role: str, kind: str) -> Document:
    """Evidence of a claim, which the claim's line tells again."""
    of = of_lines(f"evidence/{claim}/{role}.jsonl" if kind == "runs" else f"evidence/{claim}/checks-{role}.jsonl")

    def write(folder: Path, content: Json) -> None:
        of.write(folder, content)
        lines = of_lines("claims.jsonl")
        rows = lines.read(folder)
        each = [row for row in content if isinstance(row, dict)] if isinstance(content, list) else []
        if kind == "runs":
            derived_fields = ("data", "cuts", "canary_key")
            fresh = [{name: value for name, value in row.items() if name not in derived_fields} for row in each]
        else:
            fresh = [{**row, "right": row.get("expected") == row.get("got")} for row in each]
        for row in rows:
            if row["id"] == claim:
                row[kind] = mix(row[kind], role, fresh)
        lines.write(folder, rows)

    return Document(f"{of.name}", of.read, write)


def of_sweep(claim: str, name: str) -> Document:
    """A sweep, of which the claim's line has a picture."""
    of = of_json(f"evidence/{claim}/{name}")

    def write(folder: Path, content: Json) -> None:
        of.write(folder, content)
        lines = of_lines("claims.jsonl")
        rows = lines.read(folder)
        try:
            result = sweeps.read(content, name)
        except (UnsoundError, KeyError, TypeError, ValueError):
            return
        guest = name.partition(".")[0]
        for each in (each for row in rows if row["id"] == claim for each in row["maps"] if each["guest"] == guest):
            each.update(way=result.way, size=result.size, rate=result.rate, spans=result.spans)
        lines.write(folder, rows)

    return Document(of.name, of.read, write)


def of_statement() -> Document:
    """What is signed."""

    def read(folder: Path) -> Json:
        return json.loads(base64.b64decode(json.loads((folder / "attestation.json").read_text())["payload"]))

    def write(folder: Path, content: Json) -> None:
        def change(statement: dict[str, Any]) -> None:
            statement.clear()
            statement.update(content if isinstance(content, dict) else {})

        payload(change)(folder)

    return Document("the statement", read, write, far=False)


SINGLE = (
    of_json("record.json"),
    of_json("planned.json"),
    of_lines("claims.jsonl"),
    of_lines("journal.jsonl"),
    of_evidence("host_cannot_read", "subject", "runs"),
    of_evidence("host_cannot_write", "control", "runs"),
    of_evidence("guest_works", "subject", "checks"),
    of_evidence("guest_works", "control", "checks"),
    of_sweep("host_reads_no_other_page", "protected.process_vm_readv.json"),
    of_sweep("host_reads_no_other_page", "plain.process_vm_readv.json"),
    of_json("signoff.json", far=False),
    of_json("signoff.sarif", far=False),
    of_json("kcidb.json", far=False),
    of_statement(),
)
MERGED = (
    of_json("record.json"),
    of_json("planned.json"),
    of_json("fleet.json"),
    of_lines("claims.jsonl"),
    of_lines("journal.jsonl"),
    of_json("signoff.json", far=False),
    of_json("signoff.sarif", far=False),
    of_json("kcidb.json", far=False),
    of_statement(),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A change, and what became of it."""

    document: str
    place: Place
    how: str
    found: Verification
    void: bool

    @property
    def survives(self) -> bool:
        """Whether the verifier takes it for PROTECTED; what was made anew as it was is no attempt."""
        return self.found.exit_code == 0 and not self.void

    @property
    def name(self) -> str:
        """In a few words, without numbers of lists."""
        where = ".".join("*" if isinstance(step, int) else step for step in self.place)
        return f"{self.document}: {where or 'all of it'} {self.how}"


def attempt(
    report: Path, scratch: Path, documents: tuple[Document, ...], choice: random.Random, contract: str
) -> Attempt:
    """Change a copy of a report, make it anew, verify it."""
    folder = Path(shutil.copytree(report, scratch / report.name))
    try:
        form = choice.choice(documents)
        content, before = form.read(folder), form.read(folder)
        place = choice.choice(list(places(content)))
        value = content
        for key in place:
            value = value[key]
        how, other = changed(value, choice)
        if place:
            holder = content
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = other
        else:
            content = other
        form.write(folder, content)
        if form.far:
            anew(folder)
        elif form.name != "the statement":
            resigned(folder)
        result = verify(load(folder), TrustAnchors(keys=(MINE,), contract=contract))
        return Attempt(form.name, place, how, result, same(_bare(form.read(folder)), _bare(before)))
    finally:
        shutil.rmtree(folder)


def _bare(content: Json) -> Json:
    """A document without what chains its lines: any change of a line's form changes it."""
    if not isinstance(content, list):
        return content
    return [
        {name: value for name, value in event.items() if name != "previous"} if isinstance(event, dict) else event
        for event in content
    ]


def resigned(folder: Path) -> None:
    """Checksums and signature anew, and nothing else."""
    Evidence(folder).seal()

    def fresh(statement: dict[str, Any]) -> None:
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = digest(folder / subject["name"])

    payload(fresh)(folder)


def main(seed: str = "0", count: str = "200") -> None:
    """Print what the verifier takes for PROTECTED."""
    with tempfile.TemporaryDirectory(prefix="sealproof-forger-") as name:
        scratch = Path(name)
        single, several = small_report(scratch / "reports", KEY), fleet(scratch / "fleet")
        anew(several)
        choice = random.Random(seed)
        (scratch / "a").mkdir()
        for _ in range(int(count)):
            for report, documents, contract in (
                (single, SINGLE, contract_sha256()),
                (several, MERGED, contract_sha256(fleet_samples.CONTRACT)),
            ):
                forged = attempt(report, scratch / "a", documents, choice, contract)
                if forged.survives:
                    sys.stdout.write(f"{'merged ' if documents is MERGED else ''}{forged.name}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
