# SPDX-License-Identifier: GPL-2.0-or-later
"""signoff.html, made anew from what was derived, and compared byte for byte; its style is the one that is known here.

So the page holds no word that the evidence, the record, the contract or this program does not have, no script, no form,
and no link but to itself and to the report's files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from verifier import machines, picture, threats, tries
from verifier.contract import Claim
from verifier.exports import Derivation
from verifier.identity import LISTS
from verifier.markup import DASH, clock, first_line, heads, mark, numbers, safe
from verifier.run import STATUSES, series_of
from verifier.text import legible
from verifier.verdict import EXIT, count_of, problems, row_of, sentence
from verifier.words import CLASSES, EXITS, KINDS, MEANING, NO_SIGNOFF, PLAIN_PROBES, PROBES, TIERS

PAGE, STYLE = "signoff.html", "signoff.css"
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"
STYLE_SHA256 = "ca9458a05f802d0ca7c685b826f72a1b73c986741f1b1250cb706ddc765a0eef"
_FEW = 40  # claims up to which all sections are open
_TONES = {"PROTECTED": "good", "CONTROLS HOLD": "neutral", "NOT PROVEN": "open"}
_COLUMNS = {
    "bare": (("Expected", "expected", "expected"), ("Observed", "observed", "observed"),
             ("Control", "control", "control")),
    "probe": (("Expected", "expected", "expected"), ("Page under test", "tested", "observed"),
              ("Control: plain page", "plain", "control"), ("Control: shared page", "shared", "shared")),
    "work": (("Expected", "expected", "expected"), ("Guest under test", "tested", "observed"),
             ("Control: plain guest", "plain", "control")),
}  # fmt: skip
"""A column's heading, its label where there is no room for a table, and what of a claim's line stands in it."""


def page(derivation: Derivation) -> Iterator[str]:
    """Where the page says anything else."""
    tree = derivation.run.tree
    if hashlib.sha256(tree.read(STYLE)).hexdigest() != STYLE_SHA256:
        yield f"{STYLE} is not the style that this verifier knows: it may hide or show what it likes"
    # Bytes that are no UTF-8 are nothing that is wanted: each becomes a lone surrogate.
    lines = tree.read(PAGE).decode("utf-8", "surrogateescape").split("\n")
    expected = render_page(derivation).split("\n")
    for number, (line, must) in enumerate(zip(lines, expected, strict=False), 1):
        if line != must:
            at = next((at for at, pair in enumerate(zip(line, must, strict=False)) if pair[0] != pair[1]), 0)
            begin = max(0, at - 40)
            yield (
                f"{PAGE}: line {number} is {_cut(line, begin)}, and it must be {_cut(must, begin)}, unless another "
                "version of sealproof made it"
            )
            return
    if len(lines) != len(expected):
        yield f"{PAGE} has {len(lines)} lines, and it must have {len(expected)}"


def _cut(line: str, begin: int) -> str:
    return repr(legible(f"{'...' if begin else ''}{line[begin:]}", 100))


def render_page(derivation: Derivation) -> str:
    """The page."""
    return "\n".join(_Page(derivation).lines())


class _Page:
    """One report's page, line by line."""

    def __init__(self, derivation: Derivation) -> None:
        self._derivation, self._run = derivation, derivation.run
        self._record, self._kernel = derivation.run.record, derivation.run.record["kernel"]
        self._plain = derivation.run.mode == "plain"
        self._rows = {name: row_of(derivation.run, name) for name in derivation.run.claims}
        self._fleet = derivation.fleet

    def lines(self) -> Iterator[str]:
        """All of it."""
        yield from self._top()
        yield from self._not_passed()
        yield from self._overview()
        yield from self._threats()
        yield from self._machines()
        yield from self._memory()
        yield from self._claims()
        yield from self._parts()
        yield from self._help()
        yield from ("</main>", "</body>", "</html>")

    def _link(self, name: str) -> str:
        """A claim, by its sentence."""
        return f'<a href="#{name}">{safe(self._rows[name]["sentence"] or name)}</a>'

    def _top(self) -> Iterator[str]:
        derivation, record = self._derivation, self._record
        name = f"sealproof {'check of the controls' if self._plain else 'security sign-off'}"
        yield from (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{safe(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{derivation.word} {DASH} {safe(record['series'] or 'sealproof')} {DASH} {record['run']}</title>",
            '<link rel="stylesheet" href="signoff.css">',
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{name} · run {record['run']}</h1>",
            f'<div class="verdict {_TONES.get(derivation.word, "bad")}">',
            f'  <div class="word">{derivation.word}</div>',
            '  <div class="where">',
            f"{self._release()},",
            f"    {self._where()} ·",
            f"    {safe(record['started'])}{self._of_machines()}",
            "  </div>",
            f'  <div class="soft contract">{self._contract()}; sealproof {safe(record["commit"])}</div>',
            f'  <p class="sentence">{safe(sentence(self._run, derivation.word))}</p>',
        )
        if self._plain:
            yield f'  <p class="loud">⚠ {NO_SIGNOFF} PASS below means that the probe got the guest\'s bytes.</p>'
        for problem in problems(self._run):
            yield f'  <p class="loud">⚠ {safe(problem)}</p>'
        if record["tier"]:
            shows, hides = TIERS[record["tier"]]
            yield '  <dl class="tier">'
            yield f"    <div><dt>The tier “{record['tier']}” shows</dt><dd>{safe(shows)}</dd></div>"
            yield f"    <div><dt>It does not show</dt><dd>{safe(hides)}</dd></div>"
            yield "  </dl>"
        yield from ("</div>", "</header>", "<main>", "")

    def _release(self) -> str:
        return f"Linux {safe(self._kernel['release'])}" if self._kernel else "kernel not identified"

    def _where(self) -> str:
        series, tier = safe(self._record["series"] or "unknown"), self._record["tier"] or "unknown"
        return f"series <b>{series}</b> · mode <b>{self._run.mode}</b> · tier <b>{tier}</b>"

    def _contract(self) -> str:
        return f"contract of {count_of(self._run.claims, 'claim', 'claims')}, sha256 {self._run.contract}"

    def _of_machines(self) -> str:
        if self._fleet is None:
            return ""
        parts = self._fleet["parts"]
        names = count_of({part["machine"] for part in parts}, "machine", "machines")
        return f' · <a href="#machines">{names}, {len(parts)} parts</a>'

    def _not_passed(self) -> Iterator[str]:
        of = {status: [name for name, row in self._rows.items() if row["status"] == status] for status in STATUSES}
        if any(of[status] for status in STATUSES if status != "PASS"):
            yield '<section class="not-passed" aria-label="What did not pass">'
            for status in (status for status in ("FAIL", "ERROR", "MISS", "SKIP") if of[status]):
                loud = status in ("FAIL", "ERROR") or len(of[status]) <= 8
                yield f"<details{' open' if loud else ''}>"
                yield f"<summary>{mark(status)} {count_of(of[status], 'claim', 'claims')}</summary>"
                yield "<ul>"
                for name in of[status]:
                    row = self._rows[name]
                    yield (
                        f'<li><a href="#{name}">{safe(row["sentence"])}</a> '
                        f'<span class="soft">{first_line(row["why"])}</span></li>'
                    )
                yield "</ul>"
                yield "</details>"
            yield "</section>"
        yield ""

    def _sections(self) -> Iterator[tuple[str, str, list[Claim]]]:
        """Kind, class and claims, in the page's order."""
        for kind in KINDS:
            for threat in CLASSES:
                claims = [claim for claim in self._run.claims.values() if (claim.kind, claim.threat) == (kind, threat)]
                if claims:
                    yield kind, threat, claims

    def _counts(self, claims: Sequence[Claim]) -> dict[str, int]:
        statuses = [self._rows[row.id]["status"] for row in claims]
        return {status: statuses.count(status) for status in STATUSES}

    def _overview(self) -> Iterator[str]:
        yield '<div class="overview">'
        yield "<table>"
        yield f"<thead><tr><th>Claims</th>{heads()}</tr></thead>"
        yield "<tbody>"
        for kind, threat, claims in self._sections():
            yield f'<tr><td><a href="#{kind}-{threat}">{KINDS[kind][0]}: {safe(CLASSES[threat][0])}</a></td>'
            yield f"{''.join(numbers(self._counts(claims)))}</tr>"
        yield "</tbody>"
        every = list(self._run.claims.values())
        yield f"<tfoot><tr><td>{count_of(every, 'claim', 'claims')}</td>"
        yield f"{''.join(numbers(self._counts(every)))}</tr></tfoot>"
        yield from ("</table>", "</div>", "")

    def _threats(self) -> Iterator[str]:
        if not self._plain:
            yield '<h2 id="threats">The threat model, claim by claim</h2>'
            yield (
                '<p class="soft">The parts and the threats follow the RFC “KVM protected memory extension” of October '
                "2020. The weakest evidence is the worst status of"
            )
            yield "a claim. A boundary is a way that is documented to be open.</p>"
            yield '<div class="scroll" tabindex="0" role="group" aria-labelledby="threats">'
            yield '<table class="threats">'
            yield (
                '<thead><tr><th scope="col">Threat</th><th scope="col">Claims</th><th scope="col">Weakest evidence</th>'
                '<th scope="col">Open boundaries</th></tr></thead>'
            )
            for part, lines in threats.lines(self._run).items():
                yield "<tbody>"
                yield f'<tr><th scope="rowgroup" colspan="4">{part}</th></tr>'
                for line in lines:
                    yield from self._threat(line)
                yield "</tbody>"
            yield "</table>"
            yield "</div>"
        yield ""

    def _threat(self, line: threats.Line) -> Iterator[str]:
        yield f'<tr><th scope="row">{safe(line.threat.words)}</th>'
        sections = [
            f'<a href="#{kind}-{threat}">{KINDS[kind][0]}: {safe(CLASSES[threat][0])}</a> ({count})'
            for (kind, threat), count in line.sections.items()
        ]
        yield f"<td>{'; '.join(sections) or 'none'}</td>"
        weakest = "nothing here tries it"
        if line.status:
            words = " ".join(self._link(name) for name in line.weakest[:3])
            if len(line.weakest) > 3:
                words += f" and {len(line.weakest) - 3} more"
            narrow = f"; {line.narrow} of them on fewer than three kinds of page" if line.narrow else ""
            weakest = f"{mark(line.status)} {words or f'of all claims{narrow}'}"
        note = f'<div class="soft">{safe(line.threat.note)}</div>' if line.threat.note else ""
        yield f"<td>{weakest}{note}</td>"
        more = f" and {len(line.open) - 4} more" if len(line.open) > 4 else ""
        yield f"<td>{' '.join(self._link(name) for name in line.open[:4]) or DASH}{more}</td></tr>"

    def _machines(self) -> Iterator[str]:
        if self._fleet is not None:
            sentences = {name: row["sentence"] for name, row in self._rows.items()}
            yield from machines.machines_part(self._fleet, sentences)
        yield ""

    def _memory(self) -> Iterator[str]:
        if pictures_found := picture.pictures(self._rows):
            yield '<h2 id="memory">Guest memory, page by page</h2>'
            yield (
                '<p class="soft">Each dot is a page of 4 KiB. Each line is a row of pages that starts at the address '
                "beside it. A page is private to the guest if the"
            )
            yield (
                "guest has not asked its host to share it. A page is readable if at least one of the named paths read "
                "it.</p>"
            )
            yield '<div class="pictures">'
            for sweep in pictures_found:
                yield from picture.picture_part(sweep)
            yield "</div>"
        yield ""

    def _claims(self) -> Iterator[str]:
        run = self._run
        counts = self._counts(list(run.claims.values()))
        yield '<h2 id="claims">Claims</h2>'
        yield '<div class="filters">'
        yield (
            f'<input type="radio" name="filter" id="show-all" checked><label for="show-all">all {len(run.claims)}'
            "</label>"
        )
        for status in (status for status in STATUSES if counts[status]):
            yield (
                f'<input type="radio" name="filter" id="show-{status}"><label for="show-{status}">{mark(status)} '
                f"{counts[status]}</label>"
            )
        yield '<div class="shown">'
        sections = list(self._sections())
        for kind, (title, words) in KINDS.items():
            parts = [(threat, claims) for heading, threat, claims in sections if heading == kind]
            if not parts:
                continue
            yield '<div class="kind">'
            yield f"<h3>{title}</h3>"
            yield f'<p class="soft">{PLAIN_PROBES if self._plain and kind in PROBES else words}</p>'
            for threat, claims in parts:
                yield from self._section(kind, threat, claims)
            yield "</div>"
        yield from ("</div>", "</div>", "")

    def _section(self, kind: str, threat: str, claims: Sequence[Claim]) -> Iterator[str]:
        counts = self._counts(claims)
        columns = _COLUMNS["bare"]
        if not self._plain and kind != "health":
            columns = _COLUMNS["probe" if kind in PROBES else "work"]
        has = "".join(f" has-{status}" for status in STATUSES if counts[status])
        open_ = " open" if len(self._run.claims) <= _FEW or counts["PASS"] != len(claims) else ""
        heading, about = CLASSES[threat]
        yield f'<details class="group{has}" id="{kind}-{threat}"{open_}>'
        yield f'<summary><span class="heading">{safe(heading)}</span>'
        for status in (status for status in STATUSES if counts[status]):
            yield f'<span class="count">{mark(status)} {counts[status]}</span>'
        yield f'<span class="soft about">{safe(about)}</span></summary>'
        yield f'<div class="claims of{len(columns)}">'
        heads = "".join(f"<div>{column}</div>" for column, _, _ in columns)
        yield f'<div class="head" aria-hidden="true"><div>Status</div><div>Claim</div>{heads}<div></div></div>'
        for claim in claims:
            yield from self._claim(claim, columns)
        yield from ("</div>", "</details>")

    def _claim(self, claim: Claim, columns: Sequence[tuple[str, str, str]]) -> Iterator[str]:
        row = self._rows[claim.id]
        words = safe(row["sentence"])
        yield f'<details class="claim {row["status"]}" id="{claim.id}">'
        yield "<summary>"
        yield f"  <div>{mark(row['status'])}</div>"
        yield f"  <div>{f'Control of “{words}”' if self._plain and claim.kind in PROBES else words}"
        if row["status"] != "PASS":
            yield f'    <div class="why">{safe(row["why"])}</div>'
        yield "  </div>"
        for _, label, name in columns:
            empty = "" if row[name] else " empty"
            yield (
                f'  <div class="cell{empty}"><span class="label">{label}</span>{safe(row[name]) or DASH}</div>'
            )  # fmt: skip
        yield from ("</summary>", '<div class="body">', '<dl class="facts">')
        yield f"  <dt>Claim</dt><dd><code>{claim.id}</code></dd>"
        if row["status"] == "PASS":
            yield f"  <dt>Verdict</dt><dd>{safe(row['why'])}</dd>"
        yield f"  <dt>Why this outcome</dt><dd>{safe(claim.why)}</dd>"
        yield f"  <dt>Source</dt><dd>{safe(claim.source)}</dd>"
        yield from self._facts(claim, row)
        yield "</dl>"
        if row["runs"]:
            yield from tries.probes(row["runs"], plain=self._plain)
        if row["maps"]:
            yield '<p><a href="#memory">Where in the guests\' memory: the picture above</a></p>'
        if row["checks"]:
            yield from tries.checks(row["checks"])
        yield from ("</div>", "</details>")

    def _facts(self, claim: Claim, row: dict[str, Any]) -> Iterator[str]:
        if part_words := [] if self._fleet is None else self._fleet["words"].get(claim.id, []):
            more = f" and {len(part_words) - 8} more" if len(part_words) > 8 else ""
            yield (
                "  "
                f"<dt>Machine</dt><dd>{'; '.join(self._sentence(claim.id, fact) for fact in part_words[:8])}{more}</dd>"
            )
        if row["command"]:
            yield f"  <dt>Repeat this claim</dt><dd><code>{safe(row['command'])}</code></dd>"
        if row["seconds"]:
            yield f"  <dt>Took</dt><dd>{clock(row['seconds'])}</dd>"
        if row["evidence"]:
            files = ", ".join(f'<a href="{safe(file)}">{safe(file)}</a>' for file in row["evidence"])
            yield f"  <dt>Evidence</dt><dd>{files}</dd>"

    def _sentence(self, claim: str, word: machines.Word) -> str:
        parts = self._fleet["parts"] if self._fleet else []
        part_ = next(each for each in parts if each["run"] == word["part"])
        part = f"part {safe(word['part'])}"
        if part_["ended"]:
            part = f'<a href="{machines.page_of(part_)}#{claim}">{part}</a>'
        return f"{mark(word['status'])} {safe(part_['machine'])}, {part}"

    def _parts(self) -> Iterator[str]:
        record = self._record
        yield "<h2>What was tested, and how to repeat it</h2>"
        yield f'<pre tabindex="0">{safe(record["command"])}</pre>'
        yield from ('<div class="columns">', "<div>", "<h3>Kernel</h3>")
        yield from self._of_kernel()
        yield "<h3>Made of</h3>"
        yield '<p class="soft">SHA-256 of each; where there is a list of files, of that list.</p>'
        yield '<dl class="facts">'
        for name, sha256 in record["made_of"].items():
            file = LISTS.get(name)
            listed = f', <a href="{file}">its files</a>' if file in self._run.tree.names else ""
            yield f"  <dt>{safe(name)}</dt><dd><code>{safe(sha256)}</code>{listed}</dd>"
        yield from ("</dl>", "<h3>Run</h3>", '<dl class="facts">')
        yield f"  <dt>Run</dt><dd><code>{record['run']}</code></dd>"
        yield f"  <dt>Started</dt><dd>{safe(record['started'])}</dd>"
        yield f"  <dt>Ended</dt><dd>{safe(record['ended'] or 'never: the run was killed')}</dd>"
        if record["machine"]:
            yield f"  <dt>Machine</dt><dd>{safe(record['machine'])}</dd>"
        yield f"  <dt>sealproof</dt><dd><code>{safe(record['commit'])}</code></dd>"
        for name, seconds in record.get("durations", {}).items():
            yield f"  <dt>{safe(name)}</dt><dd>{clock(seconds)}</dd>"
        yield from ("</dl>", "</div>", "<div>", "<h3>Host</h3>", '<dl class="facts">')
        yield f"  <dt>Tier</dt><dd>{record['tier'] or 'unknown'}</dd>"
        for name, value in record["host"].items():
            yield f"  <dt>{safe(name)}</dt><dd>{safe(value)}</dd>"
        yield from ("</dl>", "<h3>Logs and data</h3>", "<ul>")
        files = ("signoff.json", "junit.xml", "signoff.tap", "signoff.sarif", "kcidb.json", "claims.jsonl")
        links = ", ".join(f'<a href="{file}">{file}</a>' for file in (*files, "journal.jsonl"))
        yield f"  <li>{links}, <code>contract/</code></li>"
        yield '  <li><a href="SHA256SUMS">SHA256SUMS</a> of every file here: <code>sha256sum -c SHA256SUMS</code></li>'
        yield (
            f"  <li>attestation.json, signed by the key <code>{self._derivation.key}</code> "
            '(<a href="signing-key.pub">signing-key.pub</a>). To check it, use the fingerprint that you have from the '
            "signer, not the one printed here:"
        )
        yield "  <code>python3 -I verifier FOLDER --key FINGERPRINT --contract SHA256</code></li>"
        for name in self._run.logs:
            yield f'  <li><a href="{safe(name)}">{safe(name)}</a></li>'
        yield from ("</ul>", "</div>", "</div>", "")

    def _of_kernel(self) -> Iterator[str]:
        kernel = self._kernel
        if not kernel:
            yield "<p>Not identified: the run did not get that far.</p>"
            return
        running = safe(kernel["running_build_id"] or "nothing")
        same = kernel["running_build_id"] == kernel["build_id"]

        def with_name(name: str) -> str:
            return f"<code>sha256 {safe(kernel[name] or 'unknown')}</code>"

        yield '<dl class="facts">'
        yield f"  <dt>Release</dt><dd>{safe(kernel['release'])}</dd>"
        yield (
            f"  <dt>Build ID</dt><dd><code>{safe(kernel['build_id'])}</code> of what was built; the running kernel says"
        )
        yield f"{'the same of itself' if same else f'<code>{running}</code>'}</dd>"
        yield f"  <dt>Image</dt><dd>{with_name('image_sha256')}</dd>"
        yield f"  <dt>With symbols</dt><dd>{with_name('vmlinux_sha256')}</dd>"
        yield f"  <dt>Source</dt><dd>{safe(kernel['source'])}<br>{with_name('source_sha256')}</dd>"
        yield f"  <dt>Compiler</dt><dd>{safe(kernel['compiler'] or 'unknown')}</dd>"
        series = f"{safe(self._record['series'] or 'unknown')}<br><code>sha256 {series_of(self._record)}</code>"
        yield f"  <dt>Series</dt><dd>{series}</dd>"
        yield f"  <dt>Configuration</dt><dd><code>sha256 {safe(kernel['config_sha256'])}</code></dd>"
        each = (
            f"<li>{safe(patch['name'])}<br><code>{safe(patch['sha256'])}</code></li>" for patch in kernel["patches"]
        )
        patches = f"<ul>{''.join(each)}</ul>" if kernel["patches"] else "none"
        yield f"  <dt>Patches</dt><dd>{patches}</dd>"
        yield "</dl>"

    def _help(self) -> Iterator[str]:
        yield "<h2>How to read this</h2>"
        yield '<dl class="facts">'
        yield from (f"<dt>{mark(word)}</dt><dd>{safe(meaning)}</dd>" for word, meaning in MEANING.items())
        mine = EXIT[self._derivation.word]
        for code, meaning in EXITS.items():
            this, arrow = (" (this run)", "▸ ") if code == mine else ("", "")
            yield f"<dt>{arrow}exit {code}</dt><dd>{meaning}{this}</dd>"
        yield (
            "<dt>canary</dt><dd>4,096 random bytes that only the guest holds. The report names it by a fingerprint; "
            "its bytes appear only where they leaked.</dd>"
        )
        yield (
            "<dt>control</dt><dd>The same probe in the same run on a page that it may reach: one of a plain guest on "
            "the same host (plain), and one that the protected guest has shared with its host (shared). Without both a "
            "refusal proves nothing.</dd>"
        )
        yield (
            "<dt>leaked, private, …</dt><dd>The result for a page of a picture; the legend beside the picture explains "
            "the words. signoff.json lists every page.</dd>"
        )
        yield (
            "<dt>plain, private, shared</dt><dd>The state of a page, as the guest's own kernel reports it. Plain: the "
            "guest did not ask for protection. Private: the guest keeps the page to itself. Shared: the guest shares "
            "the page with the host.</dd>"
        )
        yield "</dl>"
