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
from verifier.exports import WHOLE, Derived
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


def junit(derived: Derived) -> Iterator[str]:
    """Where junit.xml says anything else."""
    data = derived.run.tree.read(JUNIT)
    if not data.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n"):
        raise UnsoundError(f"{JUNIT} is not written as sealproof writes it")
    if b"<!" in data or data.count(b"<?") > data.startswith(b"<?xml "):
        raise UnsoundError(f"{JUNIT} declares what no report may declare")
    try:
        root = ET.fromstring(data)  # noqa: S314  nothing is declared, so there is nothing to expand
    except ET.ParseError as error:
        raise UnsoundError(f"{JUNIT} is not XML: {error}") from error
    if difference := _differs(_shape(root), _junit(derived)):
        yield f"{JUNIT}{difference}"
    elif ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n" != data:
        yield f"{JUNIT} is not written as sealproof writes it"


def tap(derived: Derived) -> Iterator[str]:
    """Where signoff.tap says anything else."""
    lines = derived.run.tree.read(TAP).decode("utf-8", "replace").split("\n")
    expected = _tap(derived)
    if len(lines) != len(expected):
        yield f"{TAP} has {len(lines)} lines, and it must have {len(expected)}"
    for number, (line, must) in enumerate(zip(lines, expected, strict=False), 1):
        if line != must:
            yield f"{TAP}: line {number} is {legible(line, 100)!r}, and it must be {legible(must, 100)!r}"
            return


def sarif(derived: Derived) -> Iterator[str]:
    """Where signoff.sarif says anything else."""
    data = derived.run.tree.read(SARIF)
    if difference := _differs(parse(data, SARIF), _sarif(derived)):
        yield f"{SARIF}{difference}"
    elif fault := unusual(data, SARIF):
        yield fault


def kcidb(derived: Derived) -> Iterator[str]:
    """Where kcidb.json says anything else."""
    data = derived.run.tree.read(KCIDB)
    if difference := _differs(parse(data, KCIDB), _kcidb(derived)):
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


def _sentence(derived: Derived) -> str:
    """The verdict and its sentence."""
    return for_page(f"{derived.word}: {sentence(derived.run, derived.word)}")


def _sides(derived: Derived, claim: str) -> dict[str, str]:
    """What a claim's line says of its outcome."""
    row = row_of(derived.run, claim)
    return {name: str(row[name]) for name in _SIDES}


def _why(derived: Derived, claim: str) -> str:
    return str(row_of(derived.run, claim)["why"])


def _seconds(derived: Derived, claim: str) -> Any:
    return row_of(derived.run, claim)["seconds"]


def _says(derived: Derived, claim: str) -> str:
    """A claim's sentence."""
    return str(row_of(derived.run, claim)["sentence"])


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


def _junit(derived: Derived) -> dict[str, Any]:
    run, counts, controls = derived.run, derived.counts, len(derived.controls)
    properties = {
        "run": run.record["run"],
        "verdict": derived.word,
        "mode": run.mode,
        "tier": run.record["tier"] or "unknown",
        "contract": f"contract of {len(run.claims)} {'claim' if len(run.claims) == 1 else 'claims'}, "
        f"sha256 {run.contract}",
    }
    suite = {
        "name": "sealproof controls, no sign-off" if run.mode == "plain" else "sealproof",
        "tests": str(len(run.claims) + 1),
        "failures": str(counts["FAIL"] + (derived.whole == "FAIL")),
        "errors": str(counts["ERROR"] + counts["MISS"] + (derived.whole == "MISS")),
        "skipped": str(counts["SKIP"] + controls + (derived.whole == "CONTROL")),
        "time": f"{sum(_seconds(derived, claim) for claim in run.claims):.3f}",
        "timestamp": run.record["started"].removesuffix("Z"),
    }
    each = [_element("property", {"name": name, "value": value}) for name, value in properties.items()]
    cases = [_case(derived, claim, status) for claim, status in derived.export_words.items()]
    whole = [_element("testsuite", suite, "", [_element("properties", {}, "", each), *cases])]
    return _element("testsuites", {}, "", whole)


def _case(derived: Derived, claim: str, status: str) -> dict[str, Any]:
    tag = _TAGS.get(status)
    if claim == WHOLE:
        parts = [_element(tag, {"message": _xml(_sentence(derived)), "type": status})] if tag else []
        return _element("testcase", {"classname": "sealproof", "name": WHOLE, "time": "0.000"}, "", parts)
    kind = derived.run.claims[claim]
    attributes = {
        "classname": f"{kind.kind}.{kind.threat}",
        "name": claim,
        "time": f"{_seconds(derived, claim):.3f}",
    }
    sides = _sides(derived, claim)
    text = "".join(f"{name}: {words}\n" for name, words in sides.items() if name != "shared" or words)
    if not tag:
        return _element("testcase", attributes, "", [_element("system-out", {}, _xml(text))])
    message = _CONTROL if status == "CONTROL" else _xml(f"{status}: {_why(derived, claim)}")
    return _element("testcase", attributes, "", [_element(tag, {"message": message, "type": status}, _xml(text))])


def _xml(text: str) -> str:
    """A text as junit.xml can hold it."""
    return _NOT_XML.sub("\ufffd", for_page(text))


# --- TAP


def _tap(derived: Derived) -> list[str]:
    out = ["TAP version 14", f"1..{len(derived.export_words)}"]
    for number, (claim, status) in enumerate(derived.export_words.items(), 1):
        skip = status in ("SKIP", "CONTROL")
        begin = f"{'ok' if skip or status == 'PASS' else 'not ok'} {number} - {claim}"
        if claim == WHOLE:
            out.append(f"{begin} # SKIP {_escape(NO_SIGNOFF)}" if skip else begin)
            out += ["  ---", *_block({"verdict": derived.word, "why": sentence(derived.run, derived.word)}), "  ..."]
            continue
        why = _CONTROL if status == "CONTROL" else _why(derived, claim)
        out.append(f"{begin} # SKIP {_escape(why)}" if skip else begin)
        if status != "CONTROL":
            of_status = {} if status == "PASS" else {"status": status, "why": why}
            sides = {name: words for name, words in _sides(derived, claim).items() if words}
            out += ["  ---", *_block({**of_status, **sides}), "  ..."]
    return [*out, ""]


def _escape(text: str) -> str:
    return " ".join(for_page(text).split()).replace("\\", "\\\\").replace("#", "\\#")


def _block(facts: dict[str, str]) -> list[str]:
    return [f"  {name}: {json.dumps(for_page(value))}" for name, value in facts.items()]


# --- SARIF


def _sarif(derived: Derived) -> dict[str, Any]:
    run, record = derived.run, derived.run.record
    order = list(run.claims)
    rules = [
        {
            "id": name,
            "shortDescription": {"text": for_page(_says(derived, name) or name)},
            "fullDescription": {"text": for_page(claim.why)},
            "help": {"text": for_page(f"{claim.why}\nSource: {claim.source}")},
            "properties": {"tags": list(dict.fromkeys(["security", claim.kind, claim.threat]))},
        }
        for name, claim in run.claims.items()
    ]
    places = _places(run)
    results = [
        _result(derived, name, status, order.index(name), places[name])
        for name, status in derived.export_words.items()
        if status != "PASS" and name != WHOLE
    ]
    notes = [*([NO_SIGNOFF] if run.mode == "plain" else []), *problems(run)]
    invocation = {
        "executionSuccessful": EXIT[derived.word] != EXIT["NOT PROVEN"],
        "exitCode": EXIT[derived.word],
        "exitCodeDescription": derived.word,
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
                    "verdict": derived.word,
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


def _result(derived: Derived, claim: str, status: str, rule: int, at: tuple[str, int]) -> dict[str, Any]:
    kinds = {"FAIL": ("fail", "error"), "SKIP": ("notApplicable", "none")}
    kind, level = kinds.get(status, ("open", "none"))
    sides = _sides(derived, claim)
    words = _CONTROL if status == "CONTROL" else f"{status}: {_why(derived, claim)}"
    facts = f"expected: {sides['expected']}\nobserved: {sides['observed'] or 'nothing'}"
    text = for_page(f"{_says(derived, claim) or claim}\n{words}\n{facts}")
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


def _kcidb(derived: Derived) -> dict[str, Any]:
    checkout, build = _builds(derived)
    node = "sealproof.controls" if derived.run.mode == "plain" else "sealproof.signoff"
    of_claims = [_test(derived, node, build["id"], item) for item in derived.export_words.items() if item[0] != WHOLE]
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [checkout],
        "builds": [build],
        "tests": [_whole(derived, node, build["id"]), *of_claims],
    }


def _builds(derived: Derived) -> tuple[dict[str, Any], dict[str, Any]]:
    record, kernel = derived.run.record, derived.run.record["kernel"]
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


def _common(derived: Derived, build: str) -> dict[str, Any]:
    record = derived.run.record
    host = {name: for_page(value) for name, value in record["host"].items()}
    return {
        "build_id": build,
        "origin": "sealproof",
        "environment": {"comment": f"tier {record['tier'] or 'unknown'}", "misc": host},
        "start_time": record["started"],
    }


def _whole(derived: Derived, node: str, build: str) -> dict[str, Any]:
    record = derived.run.record
    misc = {
        "verdict": derived.word,
        "mode": derived.run.mode,
        "contract_sha256": derived.run.contract,
        "sealproof": record["commit"],
        "made_of": record["made_of"],
        "problems": [for_page(problem) for problem in problems(derived.run)],
    }
    return {
        **_common(derived, build),
        "id": f"sealproof:{record['run']}",
        "path": node,
        "comment": _sentence(derived),
        "status": "DONE" if derived.whole == "CONTROL" else derived.whole,
        "misc": misc,
    }


def _test(derived: Derived, node: str, build: str, attribute: tuple[str, str]) -> dict[str, Any]:
    claim, status = attribute
    kind = derived.run.claims[claim]
    control = "Control of: " if status == "CONTROL" else ""
    why = _why(derived, claim)
    return {
        **_common(derived, build),
        "id": f"sealproof:{derived.run.record['run']}/{claim}",
        "path": f"{node}.{kind.kind}.{kind.threat}.{claim}",
        "comment": for_page(f"{control}{_says(derived, claim)}"),
        "status": "DONE" if control else status,
        "duration": _seconds(derived, claim),
        **({"log_excerpt": for_page(why)[:4096]} if status not in ("PASS", "CONTROL") and why else {}),
        "misc": {name: for_page(words) for name, words in _sides(derived, claim).items()},
    }
