# SPDX-License-Identifier: GPL-2.0-or-later
"""signoff.html, held against what was derived.

Held are the verdict, where it holds, the contract, the problems, the counts; for each claim its status, words, runs and
checks; kernel, command, key. Beyond that the page may hold no script, no form and no style of its own, nothing from
elsewhere, and no link but to itself and to the report's files. Its running text is not held: that needs the template.
Whoever has sealproof makes the page anew, byte for byte: ``python -m signoff FOLDER``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from verifier.contract import outcome_words
from verifier.exports import SENTENCE, Derived
from verifier.run import STATUSES
from verifier.text import UnsoundError, cleaned, shown

PAGE, STYLE = "signoff.html", "signoff.css"
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"
STYLE_SHA256 = "da5d810b76b5f3bd24791d1c4a89e44efe56be47556610650aeab7b86bd1912d"
_METAS = (
    {"charset": "utf-8"},
    {"http-equiv": "Content-Security-Policy", "content": POLICY},
    {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    {"name": "referrer", "content": "no-referrer"},
)
_HEADINGS = {
    *("The threat model, claim by claim", "Which machine proved what", "Differences between the machines", "Claims"),
    *("Claims on which the machines disagree", "Guest memory, page by page", "How to read this", "Kernel", "Made of"),
    *("What was tested, and how to repeat it", "Run", "Host", "Logs and data", "Attacks", "Boundaries", "Health"),
    *("All of the memory", "Legitimate paths"),
}
_SPOKEN = {
    *("What did not pass", "Which machine proved what", "What differs between the machines", "All parts", "Checks"),
    *("Claims on which the machines differ", "How the probe ended on each kind of page", "Runs of the probe"),
}
"""What a screen reader says in the place of a part's text."""
_VOID = {"meta", "link", "br", "input", "path", "circle"}
_TAGS = frozenset(
    [
        *("html", "head", "meta", "title", "link", "body", "header", "h1", "h2", "h3", "div", "p", "dl", "dt", "dd"),
        *("section", "details", "summary", "ul", "li", "a", "span", "i", "b", "table", "thead", "tbody", "tfoot", "tr"),
        *("th", "td", "main", "input", "label", "code", "pre", "figure", "figcaption", "svg", "text", "g", "path"),
        *("circle", "br"),
    ]
)
_ATTRIBUTES = frozenset(
    [
        *("lang", "charset", "http-equiv", "content", "name", "rel", "href", "class", "id", "aria-label", "role"),
        *(
            "aria-hidden",
            "type",
            "checked",
            "for",
            "open",
            "scope",
            "colspan",
            "viewbox",
            "x",
            "y",
            "d",
            "r",
            "cx",
            "cy",
        ),
        *("font-size", "stroke-width", "transform", "tabindex", "aria-labelledby"),
    ]
)
_DASH = "\N{EN DASH}"
_TONES = {"PROTECTED": "good", "CONTROLS HOLD": "neutral", "NOT PROVEN": "open"}


class Element:
    """An element of the page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.children: list[Element | str] = []

    @property
    def classes(self) -> list[str]:
        """Its classes."""
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        """All text in it, each run of white space a space."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        """All text in it, as it stands."""
        return "".join(one if isinstance(one, str) else one.raw for one in self.children)

    def all(self, tag: str, cls: str = "") -> Iterator[Element]:
        """All elements of a kind in it, in order."""
        for one in self.children:
            if isinstance(one, Element):
                if one.tag == tag and (not cls or cls in one.classes):
                    yield one
                yield from one.all(tag, cls)

    def every(self) -> Iterator[Element]:
        """All elements in it, in order."""
        for one in self.children:
            if isinstance(one, Element):
                yield one
                yield from one.every()

    def one(self, tag: str, cls: str = "") -> Element:
        """The only element of a kind in it.

        :raises UnsoundError: there is none, or several.
        """
        found = list(self.all(tag, cls))
        if len(found) != 1:
            raise UnsoundError(f"{PAGE} has {len(found)} of {tag}.{cls} where one must be")
        return found[0]

    def under(self, tag: str) -> list[Element]:
        """Its own children of a kind."""
        return [one for one in self.children if isinstance(one, Element) and one.tag == tag]


class _Reader(HTMLParser):
    """Takes the elements that a report's page has, and no other."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise UnsoundError(f"{PAGE} has the element {shown(tag, 40)}, which no report's page has")
        given = {name: value or "" for name, value in attrs}
        if (strange := set(given) - _ATTRIBUTES) or len(given) != len(attrs):
            raise UnsoundError(f"{PAGE} has the attribute {shown(min(strange, default='twice'), 40)} at {tag}")
        self.here.children.append(made := Element(tag, given, self.here))
        if tag not in _VOID:
            self.here = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if self.here.tag != tag or self.here.parent is None:
            raise UnsoundError(f"{PAGE} is not well-formed at </{shown(tag, 40)}>")
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)

    def handle_comment(self, data: str) -> None:
        raise UnsoundError(f"{PAGE} has a comment, which no report's page has: {shown(data, 40)}")

    def handle_pi(self, data: str) -> None:
        raise UnsoundError(f"{PAGE} has an instruction, which no report's page has: {shown(data, 40)}")


def read(data: bytes) -> Element:
    """The page's elements.

    :raises UnsoundError: it is no page, or has what no report's page has.
    """
    reader = _Reader()
    text = data.decode("utf-8")
    reader.feed(text)
    reader.close()
    if reader.here is not reader.root or any(not one.isprintable() and one not in "\n\t" for one in text):
        raise UnsoundError(f"{PAGE} is cut short, or has control characters")
    return reader.root


def page(told: Derived) -> Iterator[str]:
    """Where the page says anything else, or could do anything at all."""
    tree = told.run.tree
    if hashlib.sha256(tree.read(STYLE)).hexdigest() != STYLE_SHA256:
        yield f"{STYLE} is not the style that this verifier knows: it may hide or show what it likes"
    try:
        root = read(tree.read(PAGE))
    except UnicodeDecodeError as error:
        raise UnsoundError(f"{PAGE} is no text") from error
    yield from _harmless(told, root)
    yield from _head(told, root)
    yield from _claims(told, root)


def _harmless(told: Derived, root: Element) -> Iterator[str]:
    metas = [one.attributes for one in root.all("meta")]
    if [one.get("content") for one in metas if "http-equiv" in one] != [POLICY]:
        yield f"{PAGE} has not the policy that forbids all but its style"
    if [one for one in metas if one not in _METAS]:
        yield f"{PAGE} tells browsers or search engines what no report's page does"
    if [one.attributes for one in root.all("link")] != [{"rel": "stylesheet", "href": STYLE}]:
        yield f"{PAGE} has another style than {STYLE}"
    elements = list(root.every())
    for one in elements:
        if one.tag in ("h2", "h3") and one.text not in _HEADINGS:
            yield f"{PAGE} has the heading {shown(one.text, 80)!r}, which no report's page has"
        spoken = one.attributes.get("aria-label")
        if (
            spoken is not None
            and spoken not in _SPOKEN
            and not (one.tag == "svg" and spoken.startswith("Memory of guest "))
        ):
            yield f"{PAGE} says {shown(spoken, 80)!r} to those who cannot see it, which no report's page does"
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    places = set(ids)
    if len(ids) != len(places):
        yield f"{PAGE} has two parts of one name"
    for link in root.all("a"):
        to = link.attributes.get("href", "")
        file, hash_, part = to.partition("#")
        if (file and unquote(file) not in told.run.tree) or (hash_ and not file and part not in places):
            yield f"{PAGE} has a link to {shown(to, 80)}, which is not in the report"


def _head(told: Derived, root: Element) -> Iterator[str]:
    run = told.run
    record, kernel = run.record, run.record["kernel"]
    plain = run.mode == "plain"
    counts = told.counts
    title = (told.word, record["series"] or "sealproof", record["run"])
    verdict = root.one("div", "verdict")
    tone = _TONES.get(told.word, "bad")
    claims = f"{len(run.claims)} {'claim' if len(run.claims) == 1 else 'claims'}"
    wanted: dict[str, tuple[str | list[str], str | list[str]]] = {
        "the verdict": (root.one("div", "word").text, told.word),
        "the title": (
            root.one("head").one("title").text,
            f" {_DASH} ".join(title),
        ),
        "the heading": (
            root.one("h1").text,
            f"sealproof {'check of the controls' if plain else 'security sign-off'} · run {record['run']}",
        ),
        "where it holds": (verdict.one("div", "where").text[: len(_flat(_where(record)))], _where(record)),
        "the contract": (
            verdict.one("div", "contract").text,
            f"contract of {claims}, sha256 {told.contract['sha256']}; sealproof {record['commit']}",
        ),
        "the counts": (
            [one.text for one in root.one("tfoot").all("td")],
            [claims, *(str(counts[status]) if counts[status] else "·" for status in STATUSES)],
        ),
    }
    if told.word == "PROTECTED":
        wanted["the loud words"] = ([one.text for one in root.all("p", "loud")], [])
        wanted["the verdict's sentence"] = (verdict.one("p", "sentence").text, SENTENCE)
    for what, (found, must) in wanted.items():
        if found != (_flat(must) if isinstance(must, str) else must):
            yield f"{PAGE}: {what} is {shown(found, 100)!r}, and it must be {shown(must, 100)!r}"
    if verdict.classes != ["verdict", tone]:
        yield f"{PAGE}: the verdict has the colour of another"
    text = root.text
    facts = [record["command"], told.key]
    facts += (
        [
            *(kernel[one] for one in ("build_id", "image_sha256", "source_sha256", "config_sha256", "compiler")),
            *(one["sha256"] for one in kernel["patches"]),
        ]
        if kernel
        else []
    )
    facts += record["made_of"].values()
    for fact in facts:
        if _flat(str(fact)) not in text:
            yield f"{PAGE} does not name {shown(fact, 80)}"


def _where(record: dict[str, Any]) -> str:
    kernel = f"Linux {record['kernel']['release']}" if record["kernel"] else "kernel not identified"
    return (
        f"{kernel}, series {record['series'] or 'unknown'} · mode {record['mode']} · "
        f"tier {record['tier'] or 'unknown'} · {record['started']}"
    )


def _claims(told: Derived, root: Element) -> Iterator[str]:
    run = told.run
    parts = {one.attributes.get("id", ""): one for one in root.all("details", "claim")}
    if set(parts) != set(run.claims):
        strange = set(parts) ^ set(run.claims)
        yield f"{PAGE}: its claims are not the contract's: {shown(', '.join(sorted(strange)[:3]))}"
        return
    for name, part in parts.items():
        if fault := _claim(told, name, part):
            yield f"{PAGE}: {name}: {fault}"


def _claim(told: Derived, name: str, part: Element) -> str:
    """How a claim's part differs from what was derived; empty if it does not."""
    run = told.run
    row, status = run.rows.get(name, {}), run.status[name]
    summary = part.under("summary")[0]
    if part.classes != ["claim", status] or next(summary.all("span", "status")).text[1:].strip() != status:
        return f"its status is not {status}"
    text = summary.text
    cells = [one.text for one in summary.all("div", "cell")]
    shown_here = [str(row.get(one, "")) for one in ("expected", "observed", "control", "shared")]
    for words in (str(row.get("sentence", "")), "" if status == "PASS" else str(row.get("why", ""))):
        if _flat(words) not in text:
            return f"it does not say {shown(words, 80)!r}"
    outcome = [_flat(words) or _DASH for words in shown_here[: len(cells)]]
    if row and (not cells or any(not one.endswith(words) for one, words in zip(cells, outcome, strict=True))):
        return "its outcome is told otherwise"
    facts = next(part.all("dl", "facts")).text
    claim = run.claims[name]
    for words in (name, claim.why, claim.source, str(row.get("command", "")), *row.get("evidence", ())):
        if _flat(words) not in facts:
            return f"it does not say {shown(words, 80)!r}"
    tables = [
        [[cell.text for cell in line.under("td")] for line in one.all("tr", "first")] for one in part.all("table")
    ]
    runs = [line for one in tables for line in one]
    wanted = [
        [_flat(str(cell)) for cell in (
            one["role"], one["page"], one["state"], one["call"],
            outcome_words(*(one[key] for key in ("returned", "errno", "signal", "si_code", "leaked", "page_after"))),
            one["got"], one["leaked"], one["canary"],
        )]
        for one in row.get("runs", ())
    ]  # fmt: skip
    if runs != wanted:
        return "its runs are told otherwise"
    checks = [
        [_flat(str(cell)) for cell in (one["role"], one["name"], one["expected"], one["got"])]
        + ["yes" if one["got"] == one["expected"] else "NO"]
        for one in row.get("checks", ())
    ]
    lines = [[cell.text for cell in line.under("td")] for one in part.all("tbody") for line in one.under("tr")]
    if [line for line in lines if len(line) == 5 and line[4] in ("yes", "NO")] != checks:
        return "its checks are told otherwise"
    return ""


def _flat(text: str) -> str:
    return " ".join(cleaned(text).split())
