# SPDX-License-Identifier: GPL-2.0-or-later
"""The forms of a report for other programs, made anew from what was derived, and compared.

They are ``junit.xml``, ``signoff.tap``, ``signoff.sarif`` and ``kcidb.json``. What a form says beyond what was derived
is a fault, wherever it stands.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from verifier import needs
from verifier.exports import WHOLE, Derivation
from verifier.run import CONTRACT, Run, series_of
from verifier.text import UnsoundError, for_page, legible, parse, unusual
from verifier.verdict import EXIT, problems, row_of, sentence
from verifier.words import NO_SIGNOFF

JUNIT, TAP, SARIF, KCIDB = "junit.xml", "signoff.tap", "signoff.sarif", "kcidb.json"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {"FAIL": "failure", "ERROR": "error", "MISS": "error", "SKIP": "skipped", "CONTROL": "skipped"}
_CONTROL = "the control alone: the probe gets through where nothing protects"
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_NAMED = re.compile(r"""["']([a-z][a-z0-9_]+)["']""")
_SIDES = ("expected", "observed", "control", "shared")


def junit(derivation: Derivation) -> Iterator[str]:
    """Where junit.xml says anything else."""
    data = derivation.run.tree.read(JUNIT)
    if not data.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n"):
        raise UnsoundError(f"{JUNIT} is not written as sealproof writes it")
    if b"<!" in data or data.count(b"<?") > data.startswith(b"<?xml "):
        raise UnsoundError(f"{JUNIT} declares what no report may declare")
    try:
        root = ET.fromstring(data)  # noqa: S314  nothing is declared, so there is nothing to expand
    except ET.ParseError as error:
        raise UnsoundError(f"{JUNIT} is not XML: {error}") from error
    if difference := _differs(_shape(root), _junit(derivation)):
        yield f"{JUNIT}{difference}"
    elif ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n" != data:
        yield f"{JUNIT} is not written as sealproof writes it"


def tap(derivation: Derivation) -> Iterator[str]:
    """Where signoff.tap says anything else."""
    lines = derivation.run.tree.read(TAP).decode("utf-8", "replace").split("\n")
    expected = _tap(derivation)
    if len(lines) != len(expected):
        yield f"{TAP} has {len(lines)} lines, and it must have {len(expected)}"
    for number, (line, must) in enumerate(zip(lines, expected, strict=False), 1):
        if line != must:
            yield f"{TAP}: line {number} is {legible(line, 100)!r}, and it must be {legible(must, 100)!r}"
            return


def sarif(derivation: Derivation) -> Iterator[str]:
    """Where signoff.sarif says anything else."""
    data = derivation.run.tree.read(SARIF)
    if difference := _differs(parse(data, SARIF), _sarif(derivation)):
        yield f"{SARIF}{difference}"
    elif fault := unusual(data, SARIF):
        yield fault


def kcidb(derivation: Derivation) -> Iterator[str]:
    """Where kcidb.json says anything else."""
    data = derivation.run.tree.read(KCIDB)
    if difference := _differs(parse(data, KCIDB), _kcidb(derivation)):
        yield f"{KCIDB}{difference}"
    elif fault := unusual(data, KCIDB):
        yield fault


def _differs(content: Any, expected: Any, place: str = "") -> str:
    """Where two documents differ first, in words; empty if they do not."""
    if isinstance(content, dict) and isinstance(expected, dict):
        if odd := sorted(map(str, content.keys() ^ expected.keys())):
            return f"{place}: {'it has' if odd[0] in content else 'it lacks'} {legible(odd[0], 40)}"
        pairs = [(f"{place}.{legible(key, 40)}", content[key], expected[key]) for key in expected]
    elif isinstance(content, list | tuple) and isinstance(expected, list | tuple):
        if len(content) != len(expected):
            return f"{place}: {len(content)} where there must be {len(expected)}"
        pairs = [(f"{place}[{number}]", *both) for number, both in enumerate(zip(content, expected, strict=True))]
    else:
        same = expected == content and type(content) is type(expected)
        return "" if same else f"{place} is {legible(repr(content), 100)}, not {legible(repr(expected), 100)}"
    return next((words for where, value, other in pairs if (words := _differs(value, other, where))), "")


def _sentence(derivation: Derivation) -> str:
    """The verdict and its sentence."""
    return for_page(f"{derivation.word}: {sentence(derivation.run, derivation.word)}")


def _sides(derivation: Derivation, claim: str) -> dict[str, str]:
    """What a claim's line says of its outcome."""
    row = row_of(derivation.run, claim)
    return {name: str(row[name]) for name in _SIDES}


def _why(derivation: Derivation, claim: str) -> str:
    return str(row_of(derivation.run, claim)["why"])


def _seconds(derivation: Derivation, claim: str) -> Any:
    return row_of(derivation.run, claim)["seconds"]


def _says(derivation: Derivation, claim: str) -> str:
    """A claim's sentence."""
    return str(row_of(derivation.run, claim)["sentence"])


# --- JUnit


def _shape(element: ET.Element) -> dict[str, Any]:
    """An element as a document to compare."""
    inside = element.text or ""
    return {
        "tag": element.tag,
        "attributes": dict(element.attrib),
        "text": inside if len(element) == 0 and inside.strip() else inside.strip(),
        "parts": [_shape(each) for each in element],
        "after": (element.tail or "").strip(),
    }


def _element(tag: str, attributes: dict[str, Any], text: Any = "", parts: Any = ()) -> dict[str, Any]:
    return {"tag": tag, "attributes": attributes, "text": text, "parts": list(parts), "after": ""}


def _junit(derivation: Derivation) -> dict[str, Any]:
    run, counts, controls = derivation.run, derivation.counts, len(derivation.controls)
    properties = {
        "run": run.record["run"],
        "verdict": derivation.word,
        "mode": run.mode,
        "tier": run.record["tier"] or "unknown",
        "contract": f"contract of {len(run.claims)} {'claim' if len(run.claims) == 1 else 'claims'}, "
        f"sha256 {run.contract}",
    }
    suite = {
        "name": "sealproof controls, no sign-off" if run.mode == "plain" else "sealproof",
        "tests": str(len(run.claims) + 1),
        "failures": str(counts["FAIL"] + (derivation.whole == "FAIL")),
        "errors": str(counts["ERROR"] + counts["MISS"] + (derivation.whole == "MISS")),
        "skipped": str(counts["SKIP"] + controls + (derivation.whole == "CONTROL")),
        "time": f"{sum(_seconds(derivation, claim) for claim in run.claims):.3f}",
        "timestamp": run.record["started"].removesuffix("Z"),
    }
    each = [_element("property", {"name": name, "value": value}) for name, value in properties.items()]
    cases = [_case(derivation, claim, status) for claim, status in derivation.export_words.items()]
    whole = [_element("testsuite", suite, "", [_element("properties", {}, "", each), *cases])]
    return _element("testsuites", {}, "", whole)


def _case(derivation: Derivation, claim: str, status: str) -> dict[str, Any]:
    tag = _TAGS.get(status)
    if claim == WHOLE:
        parts = [_element(tag, {"message": _xml(_sentence(derivation)), "type": status})] if tag else []
        return _element("testcase", {"classname": "sealproof", "name": WHOLE, "time": "0.000"}, "", parts)
    kind = derivation.run.claims[claim]
    attributes = {
        "classname": f"{kind.kind}.{kind.threat}",
        "name": claim,
        "time": f"{_seconds(derivation, claim):.3f}",
    }
    sides = _sides(derivation, claim)
    text = "".join(f"{name}: {words}\n" for name, words in sides.items() if name != "shared" or words)
    if not tag:
        return _element("testcase", attributes, "", [_element("system-out", {}, _xml(text))])
    message = _CONTROL if status == "CONTROL" else _xml(f"{status}: {_why(derivation, claim)}")
    return _element("testcase", attributes, "", [_element(tag, {"message": message, "type": status}, _xml(text))])


def _xml(text: str) -> str:
    """A text as junit.xml can hold it."""
    return _NOT_XML.sub("\ufffd", for_page(text))


# --- TAP


def _tap(derivation: Derivation) -> list[str]:
    out = ["TAP version 14", f"1..{len(derivation.export_words)}"]
    for number, (claim, status) in enumerate(derivation.export_words.items(), 1):
        skip = status in ("SKIP", "CONTROL")
        begin = f"{'ok' if skip or status == 'PASS' else 'not ok'} {number} - {claim}"
        if claim == WHOLE:
            out.append(f"{begin} # SKIP {_escape(NO_SIGNOFF)}" if skip else begin)
            out += [
                "  ---",
                *_block({"verdict": derivation.word, "why": sentence(derivation.run, derivation.word)}),
                "  ...",
            ]
            continue
        why = _CONTROL if status == "CONTROL" else _why(derivation, claim)
        out.append(f"{begin} # SKIP {_escape(why)}" if skip else begin)
        if status != "CONTROL":
            of_status = {} if status == "PASS" else {"status": status, "why": why}
            sides = {name: words for name, words in _sides(derivation, claim).items() if words}
            out += ["  ---", *_block({**of_status, **sides}), "  ..."]
    return [*out, ""]


def _escape(text: str) -> str:
    return " ".join(for_page(text).split()).replace("\\", "\\\\").replace("#", "\\#")


def _block(facts: dict[str, str]) -> list[str]:
    return [f"  {name}: {json.dumps(for_page(value))}" for name, value in facts.items()]


# --- SARIF


def _sarif(derivation: Derivation) -> dict[str, Any]:
    run, record = derivation.run, derivation.run.record
    order = list(run.claims)
    rules = [
        {
            "id": name,
            "shortDescription": {"text": for_page(_says(derivation, name) or name)},
            "fullDescription": {"text": for_page(claim.why)},
            "help": {"text": for_page(f"{claim.why}\nSource: {claim.source}")},
            "properties": {"tags": list(dict.fromkeys(["security", claim.kind, claim.threat]))},
        }
        for name, claim in run.claims.items()
    ]
    places = _places(run)
    results = [
        _result(derivation, name, status, order.index(name), places[name])
        for name, status in derivation.export_words.items()
        if status != "PASS" and name != WHOLE
    ]
    notes = [*([NO_SIGNOFF] if run.mode == "plain" else []), *problems(run)]
    invocation = {
        "executionSuccessful": EXIT[derivation.word] != EXIT["NOT PROVEN"],
        "exitCode": EXIT[derivation.word],
        "exitCodeDescription": derivation.word,
        "commandLine": for_page(record["command"]),
        "startTimeUtc": record["started"],
        **({"endTimeUtc": record["ended"]} if record["ended"] else {}),
        "toolExecutionNotifications": [{"level": "error", "message": {"text": for_page(note)}} for note in notes],
    }
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "sealproof", "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"SEALPROOF": {"description": {"text": "a checkout of sealproof"}}},
                "automationDetails": {"id": f"sealproof/{run.mode}/{record['run']}"},
                "invocations": [invocation],
                "results": results,
                "properties": {
                    "verdict": derivation.word,
                    "mode": run.mode,
                    "tier": record["tier"] or "unknown",
                    "contract": run.contract,
                    "sealproof": record["commit"],
                },
            }
        ],
    }


def _places(run: Run) -> dict[str, tuple[str, int]]:
    """File and line of the contract at which each claim is named first."""
    places: dict[str, tuple[str, int]] = {}
    contract = run.tree.below(CONTRACT)
    for file in (name for name in contract.names if name != needs.FILE):
        for number, line in enumerate(contract.read(file).decode("utf-8", "replace").splitlines(), 1):
            for word in _NAMED.findall(line):
                places.setdefault(word, (file, number))
    return places


def _result(derivation: Derivation, claim: str, status: str, rule: int, at: tuple[str, int]) -> dict[str, Any]:
    kinds = {"FAIL": ("fail", "error"), "SKIP": ("notApplicable", "none")}
    kind, level = kinds.get(status, ("open", "none"))
    sides = _sides(derivation, claim)
    words = _CONTROL if status == "CONTROL" else f"{status}: {_why(derivation, claim)}"
    facts = f"expected: {sides['expected']}\nobserved: {sides['observed'] or 'nothing'}"
    text = for_page(f"{_says(derivation, claim) or claim}\n{words}\n{facts}")
    file, line = at
    artifact = {"uri": f"tests_e2e/contract/{file}", "uriBaseId": "SEALPROOF"}
    place = {"artifactLocation": artifact, "region": {"startLine": line}}
    return {
        "ruleId": claim,
        "ruleIndex": rule,
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"sealproofClaim/v1": claim},
        "properties": {"status": status},
    }


# --- KCIDB


def _kcidb(derivation: Derivation) -> dict[str, Any]:
    checkout, build = _builds(derivation)
    node = "sealproof.controls" if derivation.run.mode == "plain" else "sealproof.signoff"
    of_claims = [
        _test(derivation, node, build["id"], item) for item in derivation.export_words.items() if item[0] != WHOLE
    ]
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [checkout],
        "builds": [build],
        "tests": [_whole(derivation, node, build["id"]), *of_claims],
    }


def _builds(derivation: Derivation) -> tuple[dict[str, Any], dict[str, Any]]:
    record, kernel = derivation.run.record, derivation.run.record["kernel"]
    if not kernel:
        none = {"id": "sealproof:unidentified", "origin": "sealproof"}
        return {**none, "comment": "the run did not get that far"}, {**none, "checkout_id": none["id"]}
    hashes = "".join(f"{patch['sha256']}\n" for patch in kernel["patches"])
    checkout = {
        "id": f"sealproof:{kernel['source_sha256']}-{series_of(record)}",
        "origin": "sealproof",
        "comment": for_page(f"{kernel['source']}, series {record['series'] or 'unknown'}"),
        "patchset_hash": hashlib.sha256(hashes.encode()).hexdigest() if hashes else "",
        "valid": True,
        "misc": {
            "source_sha256": kernel["source_sha256"],
            "patches": [{"name": for_page(patch["name"]), "sha256": patch["sha256"]} for patch in kernel["patches"]],
        },
    }
    of_kernel = ("build_id", "running_build_id", "image_sha256", "vmlinux_sha256", "config_sha256")
    return checkout, {
        "id": f"sealproof:{kernel['build_id']}",
        "checkout_id": checkout["id"],
        "origin": "sealproof",
        "comment": for_page(f"Linux {kernel['release']}"),
        "architecture": "x86_64",
        "compiler": for_page(kernel["compiler"]),
        "status": "PASS",
        "misc": {name: kernel[name] for name in of_kernel},
    }


def _common(derivation: Derivation, build: str) -> dict[str, Any]:
    record = derivation.run.record
    host = {name: for_page(value) for name, value in record["host"].items()}
    return {
        "build_id": build,
        "origin": "sealproof",
        "environment": {"comment": f"tier {record['tier'] or 'unknown'}", "misc": host},
        "start_time": record["started"],
    }


def _whole(derivation: Derivation, node: str, build: str) -> dict[str, Any]:
    record = derivation.run.record
    misc = {
        "verdict": derivation.word,
        "mode": derivation.run.mode,
        "contract_sha256": derivation.run.contract,
        "sealproof": record["commit"],
        "made_of": record["made_of"],
        "problems": [for_page(problem) for problem in problems(derivation.run)],
    }
    return {
        **_common(derivation, build),
        "id": f"sealproof:{record['run']}",
        "path": node,
        "comment": _sentence(derivation),
        "status": "DONE" if derivation.whole == "CONTROL" else derivation.whole,
        "misc": misc,
    }


def _test(derivation: Derivation, node: str, build: str, attribute: tuple[str, str]) -> dict[str, Any]:
    claim, status = attribute
    kind = derivation.run.claims[claim]
    control = "Control of: " if status == "CONTROL" else ""
    why = _why(derivation, claim)
    return {
        **_common(derivation, build),
        "id": f"sealproof:{derivation.run.record['run']}/{claim}",
        "path": f"{node}.{kind.kind}.{kind.threat}.{claim}",
        "comment": for_page(f"{control}{_says(derivation, claim)}"),
        "status": "DONE" if control else status,
        "duration": _seconds(derivation, claim),
        **({"log_excerpt": for_page(why)[:4096]} if status not in ("PASS", "CONTROL") and why else {}),
        "misc": {name: for_page(words) for name, words in _sides(derivation, claim).items()},
    }
