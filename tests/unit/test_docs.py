# SPDX-License-Identifier: GPL-2.0-or-later
"""README, CONTRIBUTING and docs: each command in them is one that there is, and the quick ones are run.

``tests/unit/documented.py`` finds the commands. What is slow is only parsed, and skipped here with the reason.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import cli.__main__ as command_line
from cli.table import COMMANDS
from common.paths import PROJECT
from fleet.groups import CONTRACT
from signoff.contract import Class, Kind
from signoff.contract_files import load
from signoff.report import threats
from tests.unit.documented import (
    OTHER_LANGUAGES,
    SESSION,
    SHELL,
    Documented,
    commands,
    documents,
    fault_of,
    goals,
    languages,
    parts,
)

MADE_BY_PROGRAMS = ("coverage.md", "mutation.md")
QUICK = ("completion", "schema", "doctor")
SLOW = {
    **dict.fromkeys(("signoff", "test", "test-stock", "test-hosts", "test-oldest"), "boots machines, for minutes"),
    **dict.fromkeys(("shell", "rows", "debug", "soak", "stress", "search", "bench", "selftests"), "boots machines"),
    **dict.fromkeys(("mutate", "coverage", "rebuild", "bisect", "try"), "builds a kernel"),
    **dict.fromkeys(("fleet", "merge", "speedup"), "needs the parts of a sign-off, or makes them"),
    **dict.fromkeys(("history", "nightly"), "writes the user's history, or boots machines for hours"),
    **dict.fromkeys(("verify", "report", "contract"), "needs a report (tests/unit/test_tampering*.py make some)"),
    "share-cache": "needs kernels that are built (tests/unit/test_shared_cache.py has some that are none)",
    **dict.fromkeys(("clean-cache", "lock", "bootstrap"), "changes this machine"),
    "lint": "takes a minute, and is run by itself before the tests",
}
"""Commands and goals that no unit test runs, and why."""

ALL = [command for file in documents() for command in commands(file)]
ONCE = list({command.line: command for command in reversed(ALL)}.values())


def name_of(documented: Documented) -> str:
    """The command or goal of ours that a line runs; empty: it is another program, or only lists what there is."""
    words = parts(documented.line)[0]
    if words[0] not in ("./sealproof", "make") or len(words) == 1 or "--help" in words:
        return ""
    return words[1]


def test_the_documents_have_commands() -> None:
    assert len(documents()) > 12
    assert len(ALL) > 80
    assert {name_of(command) for command in ALL} >= {command.name for command in COMMANDS} - {"test", "lint", "schema"}


@pytest.mark.parametrize("documented", ALL, ids=[f"{command.place} {command.line}" for command in ALL])
def test_a_command_is_one_that_there_is(documented: Documented) -> None:
    assert fault_of(documented.line) == ""


@pytest.mark.parametrize("documented", ONCE, ids=[command.line for command in ONCE])
def test_a_quick_command_runs(documented: Documented, capsys: pytest.CaptureFixture[str]) -> None:
    words = parts(documented.line)[0]
    name = name_of(documented)
    if words[0] not in ("./sealproof", "make"):
        pytest.skip("not ours, or needs a report: it is not run")
    if name in SLOW:
        pytest.skip(f"{SLOW[name]}: only parsed")
    if name == "doctor" and len(words) > 2:
        pytest.skip("needs machines: only parsed")
    if words[0] == "make":
        argv = ["make", "-n", *words[1:]] if name else words
        done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
        status, output = done.returncode, done.stdout
    else:  # without the wrapper, which sets up a checkout first
        status = command_line.main(words[1:])
        output = capsys.readouterr().out
    assert status in ((0, 1) if name == "doctor" else (0,))
    assert output


def test_each_command_and_goal_is_quick_or_slow_for_a_reason() -> None:
    names = {command.name for command in COMMANDS} | (goals() - {"help"})
    assert names == SLOW.keys() | set(QUICK)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("./sealproof soak --boot 3 --restore 4", ""),  # argparse takes an unambiguous beginning
        ("./sealproof soak --boots many", "is not a whole number"),
        ("./sealproof sock", "there is no command"),
        ("./sealproof signoff --sereis stock", "unknown option --sereis"),
        ("./sealproof signoff --layers none-such", "none-such"),
        ("./sealproof signoff tests_e2e/attacks/test_none.py", "no such file"),
        ("./sealproof fleet --machines a", "unrecognized arguments"),
        ("make sing-off", "make knows no sing-off"),
        ("make soak BOOT=3", "make knows no BOOT"),
        ("make soak ARGS='--boots many'", "is not a whole number"),
        ("make verify ARGS='--key abc'", "neither 64 hexadecimal digits"),
        (".venv/bin/python -m host_setup.none", "no module"),
        (".venv/bin/python -m pytest tests/unit/test_none.py", "no such file"),
        (".venv/bin/pytest tests_e2e --mode none", "invalid choice"),
        ("git bisect run python3 -m host_setup.bisect try claim --kernel . --att 3", "unrecognized arguments: --att"),
        ("git bisect run ./sealproof tri claim", "there is no command"),
        ("echo x | ./sealproof shel", "there is no command"),
        ("bash findings/none.sh", "no such file"),
        ("sealprof signoff", "nobody knows this program"),
    ],
)
def test_a_fault_in_a_command_is_found(line: str, fault: str) -> None:
    result = fault_of(line)
    assert fault in result
    assert bool(fault) == bool(result)


def test_commands_are_found_in_blocks_sessions_and_running_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.documented.PROJECT", tmp_path)
    file = tmp_path / "x.md"
    file.write_text(
        "`make\nhelp`, not `make`; `makefile`; `./sealproof soak`.\n\n"
        "```sh\n# why\n./sealproof soak \\\n  --boots 3  # three\n```\n"
        "\n```console\n$ make test\nmake is output\n$ ./sealproof\n```\n\n```toml\nmake = 1\n```\n"
    )
    assert [command.line for command in commands(file)] == [
        *("make help", "make", "./sealproof soak --help"),
        *("./sealproof soak --boots 3  # three", "make test", "./sealproof"),
    ]
    assert parts("./sealproof soak --boots 3  # three > x") == [["./sealproof", "soak", "--boots", "3"]]
    assert list(languages(file)) == [(4, "sh"), (10, "console"), (16, "toml")]


@pytest.mark.parametrize("file", documents(), ids=lambda file: file.name)
def test_code_is_fenced_and_says_what_it_is(file: Path) -> None:
    if file.name in MADE_BY_PROGRAMS:
        pytest.skip("made by a program")
    assert [result for result in languages(file) if result[1] not in (SHELL, SESSION, *OTHER_LANGUAGES)] == []


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("file", documents(), ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, section = target.partition("#")
        page = file.parent / path if path else file
        assert page.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
            assert section in map(anchor, titles), target


@pytest.mark.parametrize("file", documents(), ids=lambda file: file.name)
def test_files_that_are_named_are_there(file: Path) -> None:
    names = re.findall(r"`((?:cli|common|fleet|guest_images|history|host_setup|signoff|tests_\w+|verifier)/[^`*\s<]*)`",
                       file.read_text(encoding="utf-8"))  # fmt: skip
    assert [name for name in names if not (PROJECT / name).exists() and not re.search("NAME|SERIES", name)] == []


def test_readme_counts_no_more_attacks_than_there_are() -> None:
    stated = re.search(r"in\s+more\s+than\s+(\d+)\s+ways", (PROJECT / "README.md").read_text())
    assert stated
    attacks = [claim for claim in load(CONTRACT).claims if claim.kind is Kind.ATTACK]
    assert int(stated[1]) < len(attacks) < int(stated[1]) + 100


def test_every_page_is_linked_from_readme() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in (PROJECT / "docs").glob("*.md") if f"](docs/{file.name})" not in text] == []


def test_the_threat_model_has_the_words_of_the_report() -> None:
    text = (PROJECT / "docs/threat-model.md").read_text(encoding="utf-8")
    for part in (threats.MITIGATED, threats.NOT_MITIGATED, threats.OPEN):
        assert f"\n## {part}\n" in text
    for threat in threats._THREATS:
        section = text.split(f"\n## {threat.part}\n")[1].split("\n## ")[0]
        assert f"| {threat.words} |" in section
        for class_ in threat.classes if not threat.writes and threat.part != threats.OPEN else ():
            assert class_.heading in section
    for class_ in {class_ for threat in threats._THREATS for class_ in threat.classes}:
        assert f"| {class_.heading} | {class_.sentence} |" in text
    assert len(Class) > 8


def test_an_error_that_the_page_explains_is_one_that_the_code_says() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("cli", "common", "fleet", "guest_images", "host_setup", "signoff")
        for path in (PROJECT / folder).rglob("*.*")
        if path.suffix in (".py", ".sh")
    ) + (PROJECT / "sealproof").read_text(encoding="utf-8")
    text = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert len(messages) > 25
    output = re.sub(r'"\s*\n\s*f?"', "", code)  # a message over several lines
    assert [message for message in messages if not re.search(re.escape(message).replace("…", "[^\n]*"), output)] == []
