# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts to have a report say PROTECTED that should not, each refused with a status and words that name the fault.

An attempt edits a small real report, and goes as far as its forger can: ``RAW`` leaves it at that; ``SEALED`` makes
checksums and signature anew, by the signer's own key; ``REMADE`` also makes the journal's chain and all reports anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from host_setup.hosts.canaries import canary_of
from signoff import contract_files
from signoff.attestation import sign
from signoff.evidence import Evidence
from signoff.keys import fingerprint, put_key
from signoff.report import write
from tests.unit.report_samples import COMMIT, KEY, contract_sha256, small_report
from verifier.__main__ import main

MINE = fingerprint(KEY.public_key())
RAW, SEALED, REMADE = "raw", "sealed", "remade"
READ = "evidence/host_cannot_read"
Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run of the same contract, which is as good."""
    return small_report(tmp_path_factory.mktemp("other") / "reports", KEY)


def check(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The verifier's exit status and its words, each run of white space a space."""
    code = main([str(path), "--key", MINE, "--contract", contract_sha256(), *words])
    return code, " ".join(capsys.readouterr().out.split())


# --- how far a forger goes ---


def seal(folder: Path, key: Ed25519PrivateKey = KEY) -> None:
    sign(folder, key)


def chain(folder: Path) -> None:
    """Make the journal anew: hashes of evidence, lines, record, and the chain itself."""
    rows = [line for line in (folder / "claims.jsonl").read_bytes().split(b"\n") if line]
    previous, out, ends = "0" * 64, [], 0
    for number, line in enumerate((folder / "journal.jsonl").read_text().splitlines()):
        event = json.loads(line)
        event |= {"number": number, "previous": previous}
        if event["event"] == "begin":
            event["contract"] = contract_files.sha256(contract_files.files(folder / "contract"))
            event["run"] = json.loads((folder / "record.json").read_text())["run"]
        if event["event"] == "claim":
            if ends < len(rows):
                row = json.loads(rows[ends])
                event |= {"line": hashlib.sha256(rows[ends]).hexdigest(), "id": row["id"], "status": row["status"]}
                event["files"] = {
                    name: digest(folder / name) for name in row["evidence"] if (folder / str(name)).is_file()
                }
            ends += 1
        if event["event"] == "end":
            event |= {"record": digest(folder / "record.json"), "claims": digest(folder / "claims.jsonl")}
        text = json.dumps(event, separators=(",", ":"))
        previous = hashlib.sha256(text.encode()).hexdigest()
        out.append(text)
    (folder / "journal.jsonl").write_text("\n".join(out) + "\n")


def remake(folder: Path, key: Ed25519PrivateKey = KEY) -> None:
    chain(folder)
    put_key(folder, key)
    write(folder)
    seal(folder, key)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- edits ---


def swap(name: str, before: str, after: str, count: int = 1) -> Edit:
    """Replace text in a file, which must be there."""

    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert before in text, f"{before!r} is not in {name}"
        (folder / name).write_text(text.replace(before, after, count))

    return edit


def record(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1))

    return edit


def line(claim: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    """Change a claim's line."""

    def edit(folder: Path) -> None:
        path = folder / "claims.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row["id"] == claim:
                change(row)
        path.write_text("".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows))

    return edit


def change_seen(claim: str, role: str, change: Callable[[dict[str, Any]], object], at: int = 0) -> Edit:
    """Change an observation, in the evidence and in the claim's line."""

    def edit(folder: Path) -> None:
        path = folder / f"evidence/{claim}/{role}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change(rows[at])
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        bare = [{k: v for k, v in row.items() if k not in ("data", "cuts", "canary_key")} for row in rows]
        line(claim, lambda row: row.update(runs=mix(row["runs"], role, bare)))(folder)

    return edit


def mix(before: list[dict[str, Any]], role: str, fresh: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The subject's and the control's, the subject's first, one of them anew."""
    others = [row for row in before if row["role"] != role]
    return [*fresh, *others] if role == "subject" else [*others, *fresh]


def get_bytes(data: Callable[[bytes], bytes], *, honest: bool = True) -> Callable[[dict[str, Any]], None]:
    """An attacker that got bytes made of the canary; ``honest``: the count in the line is the true one of bytes got."""

    def change(row: dict[str, Any]) -> None:
        result = data(canary_of(bytes.fromhex(row["canary_key"])))
        row["data"] = result.hex()
        if honest:
            row["got"] = len(result)

    return change


def change_check(claim: str, change: Callable[[dict[str, Any]], object], role: str = "subject") -> Edit:
    def edit(folder: Path) -> None:
        path = folder / f"evidence/{claim}/checks-{role}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change(rows[0])
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        right = [{**row, "right": row["expected"] == row["got"]} for row in rows]
        line(claim, lambda row: row.update(checks=mix(row["checks"], role, right)))(folder)

    return edit


def remove_frame(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return edit


def drop_role(claim: str, role: str) -> Edit:
    """Take a claim's controls away, everywhere."""

    def edit(folder: Path) -> None:
        names = [f"evidence/{claim}/{role}.jsonl", f"evidence/{claim}/checks-{role}.jsonl"]

        def change(row: dict[str, Any]) -> None:
            row["evidence"] = [file for file in row["evidence"] if file not in names]
            row["runs"] = [run for run in row["runs"] if run["role"] != role]
            row["checks"] = [check for check in row["checks"] if check["role"] != role]

        line(claim, change)(folder)
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return edit


def drop_line(claim: str) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "claims.jsonl"
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if f'"id":"{claim}"' not in line))

    return edit


def drop_event(event: str, at: int = 0) -> Edit:
    """Take an event out of the journal."""

    def edit(folder: Path) -> None:
        path = folder / "journal.jsonl"
        lines = path.read_text().splitlines()
        listing = [number for number, line in enumerate(lines) if f'"event":"{event}"' in line]
        del lines[listing[at]]
        path.write_text("\n".join(lines) + "\n")

    return edit


def change_sweep(change: Callable[[dict[str, Any]], object], *, maps: bool = True) -> Edit:
    """Change what the sweep of the protected guest brought; the map in the line is made of it, or stays."""

    def edit(folder: Path) -> None:
        path = folder / "evidence/host_reads_no_other_page/protected.process_vm_readv.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        if maps:
            from verifier.sweeps import read  # noqa: PLC0415

            line("host_reads_no_other_page", lambda row: row["maps"][0].update(spans=read(document, "it").spans))(
                folder
            )

    return edit


def read_one(content: dict[str, Any]) -> None:
    """The first page, which is private, was read."""
    content["found"] = [[0, 1, None], [4096, content["found"][0][1] - 1, "EFAULT"], *content["found"][1:]]


def payload(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Change the signed statement, and sign it."""

    def edit(folder: Path) -> None:
        path = folder / "attestation.json"
        envelope = json.loads(path.read_text())
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        data = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
        kind = envelope["payloadType"].encode()
        mark = KEY.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(data), data))
        envelope["payload"] = base64.b64encode(data).decode()
        envelope["signatures"] = [{"keyid": MINE, "sig": base64.b64encode(mark).decode()}]
        path.write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")
        bundle = folder / "attestation.sigstore.json"
        document = {**json.loads(bundle.read_text()), "dsseEnvelope": envelope}
        document["verificationMaterial"] = {"publicKey": {"hint": MINE}}
        bundle.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n")

    return edit


def contract(before: str, after: str) -> Edit:
    return swap("contract/contract.toml", before, after)


def both(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for edit in edits:
            edit(folder)

    return edit


def saying(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda row: row.update(changes)


def change_aim(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda row: row["aim"].update(changes)


def in_zeros(size: int, at: int = 0, of: int = 0) -> Callable[[bytes], bytes]:
    """Bytes of the canary, none of them a zero, from a place on or soon behind it, in a page of zeros."""

    def placed(canary: bytes) -> bytes:
        further = next(more for more in range(512) if 0 not in canary[of + more : of + more + size])
        first = of + further
        return bytes(at + further) + canary[first : first + size] + bytes(4096 - at - further - size)

    return placed


def html(before: str, after: str) -> Edit:
    return swap("signoff.html", before, after)


def document(change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "signoff.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document, indent=1) + "\n")

    return edit


def link(folder: Path) -> None:
    (folder / "identity" / "console.log").symlink_to("/etc/passwd")


def hard(folder: Path) -> None:
    os.mkfifo(folder / "identity" / "pipe")


MORE = """version = 2
[[claim]]
id = "guest_flies"
kind = "legitimate"
class = "devices"
source = "drivers/wings"
reason = "It must go on."
"""


def rename_claim(name: str) -> Edit:
    return lambda folder: (folder / "contract/contract.toml").rename(folder / "contract" / name)


def add_file(name: str, text: str) -> Edit:
    """Add a file to the contract."""

    def edit(folder: Path) -> None:
        path = folder / "contract" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return edit


def halve(folder: Path) -> None:
    """The same claims in the same order, in two files."""
    path = folder / "contract/contract.toml"
    first, mark, second = path.read_text().partition('[[claim]]\nid = "guest_works"')
    path.write_text(first)
    (folder / "contract/contract2.toml").write_text(f"version = 2\n{mark}{second}")


def older(folder: Path) -> None:
    """The form that a report had before the contract was a folder."""
    shutil.rmtree(folder / "contract")
    (folder / "contract.toml").write_text("version = 1\n")


ATTEMPTS: dict[str, tuple[str, Edit, int, str]] = {
    # bytes and files, without the key
    "a_byte_of_the_page": (RAW, html("PROTECTED", "PR0TECTED"), 3, "signoff.html was changed after it was signed"),
    "a_byte_of_the_json": (RAW, swap("signoff.json", "PASS", "PAS5"), 3, "signoff.json was changed"),
    "a_byte_of_the_style": (RAW, swap("signoff.css", "color", "colour"), 3, "signoff.css was changed"),
    "a_byte_of_the_evidence": (
        RAW,
        swap(f"{READ}/subject.jsonl", "EFAULT", "EFAULt"),
        3,
        "changed after it was signed",
    ),
    "a_byte_of_the_journal": (RAW, swap("journal.jsonl", "begin", "begiN"), 3, "journal.jsonl was changed"),
    "a_byte_of_the_contract": (RAW, contract("EFAULT", "EPERM"), 3, "contract/contract.toml was changed"),
    "a_file_of_the_contract_renamed": (RAW, rename_claim("claims.toml"), 3, "were not there when it was signed"),
    "a_byte_of_the_record": (RAW, record(mode="plain"), 3, "record.json was changed"),
    "a_file_more": (RAW, lambda f: (f / "identity" / "more").write_text("x"), 3, "were not there when it was signed"),
    "a_file_less": (RAW, remove_frame(f"{READ}/control.jsonl"), 3, "taken away after it was signed"),
    "no_signature": (RAW, remove_frame("attestation.json"), 3, "nobody signed it"),
    "no_key": (RAW, remove_frame("signing-key.pub"), 3, "signing-key.pub is missing"),
    "no_sums": (RAW, remove_frame("SHA256SUMS"), 3, "SHA256SUMS"),
    "no_record": (RAW, remove_frame("record.json"), 3, "record.json was taken away"),
    "sums_made_anew": (RAW, both(record(tier="bare-metal"), lambda f: Evidence(f).seal()), 3, "SHA256SUMS was changed"),
    "sums_emptied": (RAW, lambda f: (f / "SHA256SUMS").write_text(""), 3, "SHA256SUMS was changed"),
    "another_key_laid_in": (RAW, lambda f: put_key(f, Ed25519PrivateKey.generate()), 3, "signature is not valid"),
    "a_link": (RAW, link, 3, "identity/console.log is a link"),
    "a_pipe": (RAW, hard, 3, "identity/pipe is a link or a special file"),
    "a_link_to_a_folder": (RAW, lambda f: (f / "more").symlink_to(f / "identity"), 3, "more is a link"),
    "a_name_that_hides": (RAW, lambda f: (f / "identity" / "a\x1b[2Jb").write_text(""), 3, "is not a plain name"),
    # another signer
    "signed_by_somebody_else": (RAW, lambda f: remake(f, Ed25519PrivateKey.generate()), 3, "which you did not name"),
    # the statement, by the signer's own key
    "statement_says_passed": (SEALED, lambda _: None, 0, "PROTECTED"),
    "statement_of_another_verdict": (
        RAW,
        payload(lambda s: s["predicate"].update(verdict="NOT PROTECTED")),
        3,
        "the statement's verdict is 'NOT PROTECTED'",
    ),
    "statement_of_another_result": (
        RAW,
        payload(lambda s: s["predicate"].update(result="FAILED")),
        3,
        "the statement's result",
    ),
    "statement_of_another_mode": (RAW, payload(lambda s: s["predicate"].update(mode="plain")), 3, "statement's mode"),
    "statement_passes_the_skipped": (
        RAW,
        payload(lambda s: s["predicate"]["passedTests"].append("qemu_has_no_vfio")),
        3,
        "the statement's passedTests",
    ),
    "statement_of_another_tier": (
        RAW,
        payload(lambda s: s["predicate"].update(tier="bare-metal")),
        3,
        "statement's tier",
    ),
    "statement_of_another_kernel": (
        RAW,
        payload(lambda s: s["predicate"].update(kernels=["00"])),
        3,
        "the statement's kernels",
    ),
    "statement_of_another_machine": (
        RAW,
        payload(lambda s: s["predicate"].update(machines=["x"])),
        3,
        "the statement's machines",
    ),
    "statement_of_another_commit": (
        RAW,
        payload(lambda s: s["predicate"].update(commit="1" * 40)),
        3,
        "the statement's commit",
    ),
    "statement_of_another_contract": (
        RAW,
        payload(lambda s: s["predicate"]["contract"].update(claims=999)),
        3,
        "the statement's contract",
    ),
    "statement_of_another_day": (
        RAW,
        payload(lambda s: s["predicate"].update(started="2020-01-01T00:00:00Z")),
        3,
        "the statement's started",
    ),
    "statement_without_the_page": (RAW, payload(lambda s: s["subject"].pop(0)), 3, "the statement does not name"),
    "statement_without_files": (RAW, payload(lambda s: s.update(subject=[])), 3, "the statement does not name"),
    "statement_of_another_type": (RAW, payload(lambda s: s.update(predicateType="x")), 3, "not about a test result"),
    "statement_without_predicate": (RAW, payload(lambda s: s.update(predicate=7)), 3, "predicate is no object"),
    "two_signatures": (
        RAW,
        swap("attestation.json", '"signatures": [', '"signatures": [{"sig":"AA=="},'),
        3,
        "must hold one signature",
    ),
    "a_torn_envelope": (
        RAW,
        lambda f: (f / "attestation.json").write_text("{"),
        3,
        "attestation.json is not valid JSON",
    ),
    "a_name_twice_in_the_envelope": (RAW, swap("attestation.json", "{", '{"payload":"AAAA",'), 3, "has a name twice"),
    # the reports, by the signer's own key
    "json_of_another_verdict": (SEALED, document(saying(verdict="NOT PROTECTED")), 3, "signoff.json: verdict"),
    "json_of_another_exit_code": (SEALED, document(saying(exit_code=1)), 3, "signoff.json: exit_code"),
    "json_of_another_mode": (SEALED, document(saying(mode="plain")), 3, "signoff.json: mode"),
    "json_of_another_tier": (SEALED, document(saying(tier="bare-metal")), 3, "signoff.json: tier"),
    "json_of_another_count": (
        SEALED,
        document(lambda d: d["counts"].update(PASS=8, SKIP=0)),
        3,
        "signoff.json: counts",
    ),
    "json_of_another_status": (
        SEALED,
        document(lambda d: d["claims"][3].update(status="PASS")),
        3,
        "qemu_has_no_vfio is PASS, and it must be SKIP",
    ),
    "json_of_another_reason": (SEALED, document(lambda d: d["claims"][0].update(reason="x")), 3, "reason is not what"),
    "json_of_another_class": (
        SEALED,
        document(lambda d: d["claims"][0].update({"class": "kvm"})),
        3,
        "class is not what",
    ),
    "json_of_another_sentence": (
        SEALED,
        document(lambda d: d["claims"][0].update(sentence="Nobody can read.")),
        3,
        "sentence is not what was put down",
    ),
    "json_of_another_kernel": (
        SEALED,
        document(lambda d: d["kernel"].update(build_id="00")),
        3,
        "signoff.json: kernel",
    ),
    "json_of_another_host": (SEALED, document(lambda d: d["host"].update(processor="a real one")), 3, "json: host"),
    "json_of_another_run": (
        SEALED,
        document(lambda d: d["run"].update(started="2020-01-01T00:00:00Z")),
        3,
        "run.started",
    ),
    "json_of_another_commit": (SEALED, document(lambda d: d["run"].update(commit="1" * 40)), 3, "run.commit"),
    "json_without_a_claim": (SEALED, document(lambda d: d["claims"].pop()), 3, "its claims are not the contract's"),
    "json_in_another_order": (SEALED, document(lambda d: d["claims"].reverse()), 3, "in the contract's order"),
    "json_of_other_runs": (
        SEALED,
        document(lambda d: d["claims"][0]["runs"][0].update(leaked=1)),
        3,
        "runs is not what",
    ),
    "json_of_another_key": (SEALED, document(saying(signing_key="0" * 64)), 3, "signoff.json: signing_key"),
    "json_of_another_contract": (SEALED, document(lambda d: d["contract"].update(claims=356)), 3, "json: contract"),
    "junit_without_a_failure": (SEALED, swap("junit.xml", 'tests="9"', 'tests="8"'), 3, "tests is '8', not '9'"),
    "junit_of_another_verdict": (
        SEALED,
        swap("junit.xml", 'value="PROTECTED"', 'value="SAFE"'),
        3,
        "value is 'SAFE', not 'PROTECTED'",
    ),
    "junit_passes_the_skipped": (
        SEALED,
        lambda f: (f / "junit.xml").write_text(
            re.sub(r"<skipped.*?</skipped>", "", (f / "junit.xml").read_text(), flags=re.DOTALL)
        ),
        3,
        "0 where there must be 1",
    ),
    "junit_of_another_claim": (
        SEALED,
        swap("junit.xml", 'name="guest_works"', 'name="guest_flies"'),
        3,
        "name is 'guest_flies', not 'guest_works'",
    ),
    "junit_with_an_entity": (
        SEALED,
        swap("junit.xml", "<testsuites>", '<!DOCTYPE x [<!ENTITY a "b">]><testsuites>'),
        3,
        "declares what no report may declare",
    ),
    "junit_torn": (SEALED, swap("junit.xml", "</testsuites>", ""), 3, "junit.xml is not XML"),
    "page_of_another_verdict": (
        SEALED,
        html('class="word">PROTECTED', 'class="word">NOT USABLE'),
        3,
        "it must be ' <div class=\"word\">PROTECTED</div>'",
    ),
    "page_of_another_run": (
        SEALED,
        html("security sign-off · run 2", "security sign-off · run 1"),
        3,
        "<h1>sealproof security sign-off · run 1",
    ),
    "page_of_another_tier": (
        SEALED,
        html("tier <b>emulated", "tier <b>bare-metal"),
        3,
        "must be '...s</b> · mode <b>protected</b> · tier <b>emulated</b>",
    ),
    "page_of_another_contract": (
        SEALED,
        html("contract of 8 claims", "contract of 356 claims"),
        3,
        "contract of 356 claims, sha256",
    ),
    "page_of_another_status": (
        SEALED,
        html('class="claim SKIP"', 'class="claim PASS"'),
        3,
        'must be \'<details class="claim SKIP" id="qemu_has_no_vfio">\'',
    ),
    "page_of_another_count": (
        SEALED,
        html('<tfoot><tr><td>8 claims</td>\n<td class="n">7', '<tfoot><tr><td>8 claims</td>\n<td class="n">8'),
        3,
        'is \'<td class="n">8</td>',
    ),
    "page_of_another_outcome": (
        SEALED,
        html("</span>returned -1 EFAULT, nothing leaked", "</span>returned 0"),
        3,
        "is '...n class=\"label\">expected</span>returned 0</div>'",
    ),
    "page_of_other_runs": (
        SEALED,
        html("<td>returned -1 EFAULT, nothing leaked</td>", "<td>returned 0</td>"),
        3,
        "is '<td>returned 0</td>",
    ),
    "page_of_another_kernel": (SEALED, html("ab" * 20, "ac" * 20), 3, "<dt>Build ID</dt><dd><code>acacac"),
    "page_with_a_script": (
        SEALED,
        html("<body>", "<body><script>alert(1)</script>"),
        3,
        "is '<body><script>alert(1)</script>', and it must be '<body>'",
    ),
    "page_with_an_image": (SEALED, html("<body>", '<body><img src="http://x/">'), 3, "is '<body><img src="),
    "page_with_a_style": (
        SEALED,
        html("<body>", "<body><style>.FAIL{display:none}</style>"),
        3,
        "is '<body><style>.FAIL{display:none}</style>'",
    ),
    "page_with_style_of_an_element": (SEALED, html("<body>", '<body style="color:red">'), 3, "is '<body style="),
    "page_with_an_event": (SEALED, html("<body>", '<body onload="x()">'), 3, "is '<body onload="),
    "page_with_a_link_elsewhere": (
        SEALED,
        html("<body>", '<body><a href="https://x/">x</a>'),
        3,
        "is '<body><a href=",
    ),
    "page_with_a_link_to_code": (
        SEALED,
        html("<body>", '<body><a href="javascript:x()">x</a>'),
        3,
        "javascript:x()",
    ),
    "page_without_its_policy": (SEALED, html("default-src", "x-src"), 3, 'content="x-src'),
    "page_with_another_style_file": (
        SEALED,
        html('href="signoff.css"', 'href="https://x/a.css"'),
        3,
        'href="https://x/a.css',
    ),
    "page_with_control_characters": (SEALED, html("<body>", "<body>\x1b[2J"), 3, "is '<body>\ufffd[2J'"),
    "page_with_a_comment": (SEALED, html("<body>", "<body><!-- x -->"), 3, "is '<body><!-- x -->'"),
    "style_that_hides": (
        SEALED,
        lambda f: (f / "signoff.css").write_text(".FAIL { display: none }"),
        3,
        "not the style that this verifier knows",
    ),
    # record, journal, lines: by the signer's own key, all made anew
    "record_of_another_run": (SEALED, record(run="20200101T000000Z-abcdef"), 3, "record.json is not as it was"),
    "record_edited_after_the_end": (
        SEALED,
        record(tier="bare-metal"),
        3,
        "record.json is not as it was at the run's end",
    ),
    "record_of_another_time": (REMADE, record(started="2020-01-01T00:00:00Z"), 3, "is not the time of the journal"),
    "record_that_ends_before": (REMADE, record(ended="2020-01-01T00:00:00Z"), 3, "is not the time of the journal"),
    "record_of_a_killed_run": (REMADE, record(ended=""), 2, "killed before its end"),
    "record_interrupted": (REMADE, record(interrupted=True), 2, "NOT PROVEN"),
    "record_with_a_problem": (REMADE, record(problems=["the disk was full"]), 2, "the disk was full"),
    "record_without_a_kernel": (REMADE, record(kernel=None), 2, "not identified"),
    "record_of_mode_plain": (REMADE, record(mode="plain"), 3, "says PASS, and the evidence gives MISS"),
    "record_of_no_mode": (SEALED, record(mode="loud"), 3, "its mode or tier is unknown"),
    "record_dirty": (REMADE, record(commit="0" * 40 + "-dirty"), 2, "which probes ran nobody can look up"),
    "record_of_an_unknown_commit": (REMADE, record(commit="unknown"), 2, "which probes ran nobody can look up"),
    "journal_out_of_order": (
        SEALED,
        lambda f: (f / "journal.jsonl").write_text(
            "\n".join([(t := (f / "journal.jsonl").read_text().splitlines())[0], t[2], t[1], *t[3:]]) + "\n"
        ),
        3,
        "does not follow",
    ),
    "journal_without_a_line": (SEALED, drop_event("planted"), 3, "does not follow the line before it"),
    "journal_without_a_planting": (REMADE, drop_event("planted"), 3, "planted for this claim before the probe"),
    "journal_without_an_end": (REMADE, drop_event("end"), 2, "killed before its end"),
    "journal_without_a_begin": (REMADE, drop_event("begin"), 3, "does not begin and end like a run"),
    "journal_of_another_contract": (SEALED, swap("journal.jsonl", contract_sha256(), "0" * 64), 3, "does not follow"),
    "journal_of_another_name_of_the_contract": (
        SEALED,
        rename_claim("claims.toml"),
        3,
        "another run or another contract",
    ),
    "another_name_of_the_contract": (REMADE, rename_claim("claims.toml"), 3, "not the one that you trust"),
    "a_contract_in_two_files": (REMADE, halve, 3, "not the one that you trust"),
    "a_file_of_the_contract_more": (REMADE, add_file("more.toml", MORE), 3, "not the one that you trust"),
    "no_file_of_the_contract": (SEALED, remove_frame("contract/contract.toml"), 3, "there is no contract"),
    "a_file_in_the_contract_that_is_none": (SEALED, add_file("README.md", ""), 3, "which is not a contract file"),
    "a_folder_in_the_contract": (SEALED, add_file("more/contract.toml", MORE), 3, "which is not a contract file"),
    "a_contract_of_version_1": (
        REMADE,
        contract("version = 2", "version = 1"),
        3,
        "contract.toml is not a contract of version 2",
    ),
    "a_report_of_an_older_sealproof": (SEALED, older, 2, f"the verifier of commit {COMMIT} reads it"),
    "a_report_of_both_forms": (SEALED, both(older, add_file("contract.toml", "")), 3, "not a contract of version 2"),
    "journal_torn": (
        SEALED,
        lambda f: (f / "journal.jsonl").write_bytes((f / "journal.jsonl").read_bytes()[:-9]),
        3,
        "is cut short",
    ),
    "a_line_taken_away": (REMADE, drop_line("guest_works"), 3, "claims.jsonl"),
    "a_health_line_taken_away": (
        REMADE,
        both(drop_line("host_kernel_stays_healthy"), drop_event("claim", -1)),
        3,
        "host_kernel_stays_healthy is missing",
    ),
    "a_line_twice": (
        SEALED,
        lambda f: (f / "claims.jsonl").write_text(
            (f / "claims.jsonl").read_text() + (f / "claims.jsonl").read_text().splitlines()[0] + "\n"
        ),
        3,
        "claims.jsonl",
    ),
    "a_line_of_no_claim": (
        REMADE,
        line("guest_works", saying(id="guest_flies")),
        3,
        "guest_flies is not in the contract",
    ),
    "a_status_that_is_none": (
        SEALED,
        both(line("guest_works", saying(status="GOOD")), chain),
        3,
        "GOOD, which is not a status",
    ),
    "a_skip_made_a_pass": (REMADE, line("qemu_has_no_vfio", saying(status="PASS")), 3, "evidence gives MISS"),
    "a_pass_made_a_skip": (REMADE, line("host_cannot_write", saying(status="SKIP", why="x")), 3, "does not allow"),
    "a_skip_whose_condition_does_not_hold": (
        REMADE,
        record(host={"devices": "kvm, vfio/vfio"}),
        3,
        "'no-vfio', which is not the case",
    ),
    "a_skip_of_a_host_of_which_nothing_is_known": (REMADE, record(host={}), 3, "which is not the case"),
    "evidence_deleted": (REMADE, remove_frame(f"{READ}/subject.jsonl"), 3, "evidence is not what the journal lists"),
    "all_evidence_deleted": (
        REMADE,
        both(drop_role("host_cannot_read", "subject"), drop_role("host_cannot_read", "control")),
        3,
        "no probe",
    ),
    "evidence_that_no_claim_has": (SEALED, lambda f: (f / "evidence" / "more").write_text("x"), 3, "that no claim has"),
    # observations: by the signer's own key, all made anew
    "no_control": (REMADE, drop_role("host_cannot_read", "control"), 3, "no control"),
    "a_leak_left_in_the_line": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c)),
        3,
        "its line differs",
    ),
    "a_leak_of_all": (
        REMADE,
        change_seen(
            "host_cannot_read",
            "subject",
            lambda o: (get_bytes(lambda c: c)(o), o.update(leaked=4096, head=o["data"][:128])),
        ),
        3,
        "evidence gives FAIL: 4096 bytes of a canary leaked",
    ),
    "one_byte_of_the_canary": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c[:1])),
        3,
        "1 bytes that may be the canary's",
    ),
    "two_bytes_of_the_canary": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c[:2])),
        3,
        "2 bytes of the canary",
    ),
    "three_bytes_of_the_canary": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c[900:903])),
        3,
        "3 bytes of the canary",
    ),
    "seven_bytes_in_a_page_of_zeros": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(in_zeros(7, 50, 300))),
        3,
        "7 bytes of the canary",
    ),
    "two_bytes_at_their_place": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(in_zeros(2, 700, 700))),
        3,
        "2 bytes of the canary at their place",
    ),
    "the_page_inverted": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: bytes(255 - b for b in c))),
        3,
        "inverted",
    ),
    "the_page_backwards": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c[::-1])),
        3,
        "backwards",
    ),
    "the_page_in_another_byte_order": (
        REMADE,
        change_seen(
            "host_cannot_read", "subject", get_bytes(lambda c: b"".join(c[i : i + 8][::-1] for i in range(0, 4096, 8)))
        ),
        3,
        "the evidence gives FAIL",
    ),
    "the_page_as_hexadecimal": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: c.hex().encode())),
        3,
        "as hexadecimal",
    ),
    "the_page_as_base64": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(base64.b64encode)),
        3,
        "as base64",
    ),
    "the_page_xored": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: bytes(b ^ 0x5C for b in c))),
        3,
        "XORed",
    ),
    "every_other_byte": (
        REMADE,
        change_seen("host_cannot_read", "subject", get_bytes(lambda c: bytes(b * (i % 2) for i, b in enumerate(c)))),
        3,
        "at their places",
    ),
    "another_errno": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(errno="EPERM")),
        3,
        "the contract says",
    ),
    "a_short_return": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(returned=0, errno=None)),
        3,
        "contract says",
    ),
    "a_page_that_was_changed": (
        REMADE,
        change_seen("host_cannot_write", "subject", saying(page_after="changed")),
        3,
        "the guest found its page changed",
    ),
    "a_shared_page_under_test": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(state="shared")),
        3,
        "not what the journal committed to",
    ),
    "one_kind_of_page_left_out": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(page="kernel")),
        3,
        "not what the journal committed to",
    ),
    "a_buffer_that_was_never_fetched": (
        REMADE,
        change_seen("host_reads_zeros", "subject", get_bytes(lambda _: b"")),
        3,
        "returned 4096, and 0 bytes of it are kept",
    ),
    "half_a_buffer_fetched": (
        REMADE,
        change_seen("host_reads_zeros", "subject", get_bytes(lambda _: bytes(2048))),
        3,
        "returned 4096, and 2048 bytes of it are kept",
    ),
    "another_run_in_the_aim": (
        REMADE,
        change_seen("host_cannot_read", "control", change_aim(run="20200101T000000Z-abcdef")),
        3,
        "it is of the run 20200101T000000Z-abcdef",
    ),
    "another_host_in_the_aim": (
        REMADE,
        change_seen("host_cannot_read", "control", change_aim(host="x")),
        3,
        "committed to",
    ),
    "another_guest_in_the_aim": (
        REMADE,
        change_seen("host_cannot_read", "control", change_aim(guest="x")),
        3,
        "committed to",
    ),
    "another_address_in_the_aim": (
        REMADE,
        change_seen("host_cannot_read", "subject", change_aim(gpa="0x5000000")),
        3,
        "names other addresses",
    ),
    "another_host_address": (
        REMADE,
        change_seen("host_cannot_read", "subject", change_aim(hpa="0x5000000")),
        3,
        "the journal does not say that it was planted",
    ),
    "an_address_that_is_not_mapped": (
        REMADE,
        change_seen("host_cannot_read", "subject", change_aim(mapping=["0x1000", "0x2000"])),
        3,
        "cannot be those of a page that QEMU has mapped",
    ),
    "an_address_within_a_page": (
        REMADE,
        change_seen("host_cannot_read", "subject", change_aim(gpa="0x1001")),
        3,
        "cannot be those of a page",
    ),
    "reach_that_is_any_text": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(reach=["aimed well"])),
        3,
        "names other addresses",
    ),
    "no_aim": (REMADE, change_seen("host_cannot_read", "subject", saying(aim=None)), 3, "an aim is no object"),
    "planted_after_the_probe": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(seen=1.0)),
        3,
        "did not end between planting the page and judging",
    ),
    "seen_after_the_claim": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(seen=4e9)),
        3,
        "did not end between planting the page and judging",
    ),
    "planted_at_another_time": (
        REMADE,
        change_seen("host_cannot_read", "subject", change_aim(planted=1.0)),
        3,
        "the journal does not say that it was planted",
    ),
    "another_canary": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(canary_key="00" * 32)),
        3,
        "not its canary",
    ),
    "another_fingerprint": (
        REMADE,
        change_seen("host_cannot_read", "subject", saying(canary="0" * 16)),
        3,
        "not its canary",
    ),
    "a_canary_of_zeros": (
        REMADE,
        change_seen(
            "host_cannot_read",
            "subject",
            lambda o: (
                o.pop("canary_key"),
                o.update(canary_bytes="00" * 4096, canary=hashlib.sha256(bytes(4096)).hexdigest()[:16]),
            ),
        ),
        3,
        "runs in its line differ from",
    ),
    "a_control_that_did_not_get_through": (
        REMADE,
        change_seen("host_cannot_read", "control", saying(returned=0)),
        3,
        "did not get through as contracted",
    ),
    "a_control_by_another_call": (
        REMADE,
        change_seen("host_cannot_read", "control", saying(call="read")),
        3,
        "is not the same probe",
    ),
    "a_line_that_is_not_its_evidence": (
        REMADE,
        line("host_cannot_read", lambda r: r["runs"][0].update(errno="EPERM")),
        3,
        "differ from evidence/host_cannot_read",
    ),
    "words_of_another_outcome": (
        REMADE,
        line("host_cannot_read", saying(observed="returned 0, nothing leaked")),
        3,
        "observed is 'returned 0",
    ),
    "words_of_another_expectation": (REMADE, line("host_cannot_read", saying(expected="anything")), 3, "expected is"),
    "harm_that_was_done": (
        REMADE,
        both(
            lambda f: (f / READ / "harm-1.txt").write_text("the host: Oops"),
            line("host_cannot_read", lambda r: r["evidence"].append(f"{READ}/harm-1.txt")),
        ),
        3,
        "the evidence gives FAIL: the probe did harm",
    ),
    # checks, sweeps, logs
    "a_wrong_check": (
        REMADE,
        change_check("guest_works", saying(got="5")),
        3,
        "the evidence gives FAIL: sum: 5 is not 4",
    ),
    "a_check_that_expects_nothing": (
        REMADE,
        change_check("guest_works", saying(expected="", got="")),
        3,
        "what is expected",
    ),
    "a_control_with_other_checks": (
        REMADE,
        change_check("guest_works", saying(name="weather"), "control"),
        3,
        "other checks",
    ),
    "a_wrong_control": (REMADE, change_check("guest_works", saying(got="5"), "control"), 3, "the control is not right"),
    "no_control_of_checks": (REMADE, drop_role("guest_works", "control"), 3, "the control is not right"),
    "a_control_denied": (REMADE, line("guest_works", saying(controlled=False)), 3, "says that it has none"),
    "a_guest_not_protected": (REMADE, line("guest_works", saying(protected=False)), 3, "is not protected"),
    "a_check_right_by_its_line": (
        REMADE,
        line("guest_works", lambda r: r["checks"][0].update(got="5", right=True)),
        3,
        "other checks than its evidence",
    ),
    "a_sweep_that_read_a_private_page": (REMADE, change_sweep(read_one), 3, "were read by"),
    "a_sweep_whose_map_is_another": (
        REMADE,
        change_sweep(read_one, maps=False),
        3,
        "is not what its sweep brought",
    ),
    "a_sweep_that_tried_fewer": (
        REMADE,
        change_sweep(lambda t: t.update(found=t["found"][1:])),
        3,
        "were not tried by",
    ),
    "a_sweep_during_which_sharing_changed": (
        REMADE,
        change_sweep(saying(still_shared=[])),
        3,
        "changed during the sweep",
    ),
    "a_sweep_during_which_the_account_changed": (
        REMADE,
        change_sweep(saying(later_account=[])),
        3,
        "changed during the sweep",
    ),
    "a_sweep_of_a_guest_without_account": (
        REMADE,
        change_sweep(saying(account=None, later_account=None)),
        3,
        "the guest keeps no account",
    ),
    "a_sweep_of_a_page_that_the_guest_has_not_shared": (
        REMADE,
        change_sweep(lambda t: [t[name][0].__setitem__(0, 0xD000) for name in ("account", "later_account")]),
        3,
        "were read by",
    ),
    "a_sweep_of_a_page_that_kvm_has_not_as_shared": (
        REMADE,
        change_sweep(lambda t: [t[name].__setitem__(0, [0xD000, 3]) for name in ("shared", "still_shared")]),
        3,
        "1 pages are shared by KVM or by the guest's account alone, the first at 0xc000",
    ),
    "a_sweep_of_a_larger_guest": (
        REMADE,
        change_sweep(lambda t: t["slots"].append([1 << 20, 16, 1 << 40, False, False])),
        3,
        "16 pages were not tried by",
    ),
    "a_sweep_that_is_none": (REMADE, change_sweep(lambda t: t.pop("slots"), maps=False), 3, "has no slots"),
    "a_sweep_of_another_refusal": (
        REMADE,
        change_sweep(lambda t: t["found"][0].__setitem__(2, "EIO")),
        3,
        "private pages met EIO",
    ),
    "json_of_other_logs": (SEALED, document(saying(logs=["logs/x"])), 3, "signoff.json: logs"),
    "json_of_another_field": (SEALED, document(saying(comment="all is well")), 3, "has comment, which no report has"),
    "json_of_a_claims_other_field": (
        SEALED,
        document(lambda d: d["claims"][0].update(comment="x")),
        3,
        "has comment, which was not put down",
    ),
    "a_sweep_without_end": (
        REMADE,
        change_sweep(lambda t: t["slots"][0].__setitem__(1, 1 << 50), maps=False),
        3,
        "not a sweep",
    ),
    "an_oops_in_the_log": (
        REMADE,
        swap("evidence/host_kernel_stays_healthy/console.log", "Linux", "Oops: 0000 [#1] SMP\n[ 0.1] Linux"),
        3,
        "the evidence gives FAIL",
    ),
    "a_call_trace_of_another_program": (
        REMADE,
        swap("evidence/host_kernel_stays_healthy/console.log", "fail-nth: vmalloc", "qemu: vmalloc"),
        3,
        "the evidence gives FAIL",
    ),
    "a_process_that_was_killed_for_want_of_memory": (
        REMADE,
        swap("evidence/host_kernel_stays_healthy/console.log", "past-limit invoked", "qemu invoked"),
        3,
        "the evidence gives FAIL",
    ),
    "no_log": (
        REMADE,
        both(
            remove_frame("evidence/host_kernel_stays_healthy/console.log"),
            line("host_kernel_stays_healthy", lambda r: r["evidence"].pop(0)),
        ),
        3,
        "no kernel log is kept",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    far, edit, expected, words = ATTEMPTS[name]
    carry_out(report, edit, far)
    code, output = check(report, capsys)
    assert (code, words in output) == (expected, True), output


def carry_out(folder: Path, edit: Edit, far: str) -> None:
    """Edit a report as far as an attempt goes: ``RAW``, or with what ``SEALED`` and ``REMADE`` make anew."""
    edit(folder)
    if far == SEALED:
        seal_again(folder)
    elif far == REMADE:
        remake_or_seal(folder)


def seal_again(folder: Path) -> None:
    """Sign what is there; the statement is the one of the untouched report where sealproof itself refuses."""
    try:
        seal(folder)
    except Exception:  # noqa: BLE001  sealproof's own reader refused it: the forger has another
        forge(folder)


def remake_or_seal(folder: Path) -> None:
    try:
        remake(folder)
    except Exception:  # noqa: BLE001  as above
        chain(folder)
        forge(folder)


def forge(folder: Path) -> None:
    """Make checksums and signature anew without sealproof's reader."""
    Evidence(folder).seal()

    def fresh(statement: dict[str, Any]) -> None:
        for subject_ in statement["subject"]:
            subject_["digest"]["sha256"] = digest(folder / subject_["name"])

    payload(fresh)(folder)


def test_the_untouched_report_is_protected(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = check(report, capsys)
    assert code == 0, words
    assert words.startswith("PROTECTED")
    for part in ("8 claims, sha256 " + contract_sha256(), "series a-series", "kernel_can_map", "tier emulated", MINE):
        assert part in words


def test_making_it_all_anew_changes_nothing(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remake(report)
    assert check(report, capsys)[0] == 0
