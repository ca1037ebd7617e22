# SPDX-License-Identifier: GPL-2.0-or-later
"""``junit.xml``: the verdict for CI systems. FAIL is a failure; ERROR and MISS are errors; SKIP is skipped.

A run in mode plain passes no claim about protection: what it tried for those are controls, and they are skipped here.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from common.text import printable
from signoff.contract import Mode
from signoff.overall import PROTECTION
from signoff.report.data import Report
from signoff.results import Row
from signoff.verdict import Status

_TAGS = {Status.FAIL: "failure", Status.ERROR: "error", Status.MISS: "error", Status.SKIP: "skipped"}
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> bytes:
    """The document, encoded."""
    counts = report.counts
    controls = sum(_is_control(row, report) for row in report.rows)
    suite = ET.Element(
        "testsuite",
        name="sealproof controls, no sign-off" if report.record.mode is Mode.PLAIN else "sealproof",
        tests=str(len(report.rows)),
        failures=str(counts[Status.FAIL]),
        errors=str(counts[Status.ERROR] + counts[Status.MISS]),
        skipped=str(counts[Status.SKIP] + controls),
        time=f"{sum(row.result.seconds for row in report.rows):.3f}",
        timestamp=report.record.started.removesuffix("Z"),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("run", report.record.run),
        ("verdict", report.overall.word),
        ("mode", report.record.mode),
        ("tier", report.record.tier or "unknown"),
        ("contract", report.contract),
    ):
        ET.SubElement(properties, "property", name=name, value=value)
    for row in report.rows:
        _case(suite, row, control=_is_control(row, report))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _is_control(row: Row, report: Report) -> bool:
    """Whether a claim about protection was tried without protection: its PASS then does not prove the claim."""
    return report.record.mode is Mode.PLAIN and row.claim.kind in PROTECTION and row.result.status is Status.PASS


def _case(suite: ET.Element, row: Row, *, control: bool) -> None:
    result = row.result
    place = f"{row.claim.kind}.{row.claim.threat}"
    case = ET.SubElement(suite, "testcase", classname=place, name=result.id, time=f"{result.seconds:.3f}")
    facts = f"expected: {result.expected}\nobserved: {result.observed}\ncontrol: {result.control}\n"
    facts += f"shared: {result.shared}\n" if result.shared else ""
    if control:
        words = "the control alone: the probe gets through where nothing protects"
        ET.SubElement(case, "skipped", message=words, type="CONTROL").text = _clean(facts)
    elif tag := _TAGS.get(result.status):
        child = ET.SubElement(case, tag, message=_clean(f"{result.status}: {result.why}"), type=result.status)
        child.text = _clean(facts)
    else:
        ET.SubElement(case, "system-out").text = _clean(facts)


def _clean(text: str) -> str:
    """Text without the characters that no XML document may hold."""
    return _NOT_XML.sub("\ufffd", printable(text))
