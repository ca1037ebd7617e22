# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands as a reader finds them in README, docs and help: found in Markdown, and held against what there is.

In a block marked ``sh`` each line is a command; in one marked ``console`` each line after ``$``, the rest is output.
In running text, code that begins with ``make`` or ``./sealproof`` is a command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from operator import itemgetter
from pathlib import Path

from cli.table import COMMANDS, find
from common.errors import UserInputError
from common.paths import PROJECT

SHELL, SESSION = "sh", "console"
OTHER_LANGUAGES = ("text", "toml", "python", "c", "json")
_STAND_INS = {
    "FINGERPRINT": "0" * 64,
    "SHA256": "0" * 64,
    "COMMIT": "0" * 40,
    "BUILD_ID": "0" * 40,
    "id_ed25519.pub": f"SHA256:{'A' * 43}",
}
"""What a reader puts in, and what is parsed in its place."""
_TO_PYTEST = ("signoff", "test", "coverage")
_PYTEST = ("-k", "-m", "-x", "-v", "-q", "-p", "--collect-only", "--exitfirst", "--verbose", "--fleet")
_OPERATORS = {"|", "||", ">", ">>", "&&", ";", "<"}
FOREIGN = {
    *("apt-get", "cat", "cd", "cp", "echo", "git", "ln", "scp", "ssh", "ssh-keygen", "sudo", "tar", "bash", "sh"),
    *("chromium", "sha256sum", ".", "for", "do", "break", "done"),
}
"""Programs that are not ours, with which an example may begin."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A command in a document.

    :ivar place: file and line. :ivar line: the command, without the comment behind it.
    """

    place: str
    line: str


def documents() -> list[Path]:
    """The READMEs for users, CONTRIBUTING and docs."""
    named = ("README.md", "CONTRIBUTING.md", "findings/README.md")
    return [*(PROJECT / name for name in named), *sorted((PROJECT / "docs").glob("*.md"))]


def commands(file: Path) -> list[Documented]:
    """All commands of a document, in its order."""
    lines = file.read_text(encoding="utf-8").splitlines()
    results: list[tuple[int, str]] = []
    text: list[str] = []  # without the blocks of code
    language = joined = ""
    for number, line in enumerate(lines, 1):
        if fence := re.match(r" *```(\w*)", line):
            language = "" if language else fence[1] or "none"
        text.append("" if language or fence else line)
        if fence or language not in (SHELL, SESSION) or not (joined or language == SHELL or line.startswith("$ ")):
            continue
        joined += line.strip().removeprefix("$ ")
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        if joined and not joined.startswith("#"):
            results.append((number, joined))
        joined = ""
    results += _in_text("\n".join(text))
    return [
        Documented(f"{file.relative_to(PROJECT)}:{number}", line) for number, line in sorted(results, key=itemgetter(0))
    ]


def _in_text(text: str) -> Iterator[tuple[int, str]]:
    """Line and command of each piece of code in running text that is a command; it may go over the end of a line."""
    for code in re.finditer(r"(?<!`)`((?:[^`\n]|\n(?!\n))+)`", text):
        line = " ".join(code[1].split())
        if re.search("GOAL|COMMAND", line):
            continue
        if re.fullmatch(r"\./sealproof [a-z-]+", line):  # names the command
            line += " --help"
        if re.match(r"(\./sealproof|make)( |$)", line):
            yield text.count("\n", 0, code.start()) + 1, line


def languages(file: Path) -> Iterator[tuple[int, str]]:
    """Line and language of each block of code: ``indented`` for one that no fence marks."""
    inside = False
    before = ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if fence := re.match(r" *```(\w*)", line):
            if not inside:
                yield number, fence[1] or "none"
            inside = not inside
        elif not inside and line.startswith("    ") and not before.strip():
            yield number, "indented"
        before = line


def parts(line: str) -> list[list[str]]:
    """The simple commands of a line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    results: list[list[str]] = [[]]
    skip = False
    for word in lexer:
        if word in _OPERATORS:
            skip = word in {">", ">>", "<"}
            if not skip:
                results.append([])
        elif skip:
            skip = False
        else:
            results[-1].append(word)
    return results


def fault_of(line: str) -> str:
    """What is wrong with a command as it is documented; empty if nothing is."""
    return "; ".join(filter(None, map(_fault, parts(line))))


def _fault(words: list[str]) -> str:
    words = [_stand_in(word) for word in words]
    if not words:
        return "no command"
    if words[:3] == ["git", "bisect", "run"]:
        return _fault(words[3:])
    program, arguments = words[0], words[1:]
    if program in ("./sealproof", "sealproof"):
        return _arguments(arguments)
    if program == "make":
        return _goal(arguments)
    if program.endswith(("python", "python3")) and arguments[:1] == ["-m"]:
        return _module(arguments[1], arguments[2:])
    if program == "python3" and arguments[:2] == ["-I", "verifier"]:  # a folder that is copied out
        return _module(arguments[1], arguments[2:])
    if program == ".venv/bin/pytest":
        return _arguments(["signoff", *arguments])
    if program in FOREIGN:
        return _files([word for word in arguments if word.endswith(".sh") or word.startswith(".ci/")])
    if program == ".venv/bin/avocado":
        return ""
    return f"{program}: nobody knows this program"


def _stand_in(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{_STAND_INS.get(value, value)}"


def _arguments(words: list[str]) -> str:
    """Of our own command."""
    if not words or words[0] in ("-h", "--help"):
        return ""
    try:
        command = find(words[0])
    except UserInputError as error:
        return str(error)
    rest = words[1:]
    if rest[:1] in (["-h"], ["--help"]):
        return ""
    parser = command.options_parser()
    if command.name not in _TO_PYTEST:
        return parse(parser, rest)
    if fault := parse(parser, rest, has_more=True):
        return fault
    _, others = parser.parse_known_args(rest)
    return _pytest(others)


def _pytest(words: list[str]) -> str:
    wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in _PYTEST]
    paths = [word for word in words if "/" in word and not (PROJECT / word.partition("::")[0]).exists()]
    return ", ".join([*(f"unknown option {word}" for word in wrong), *(f"no such file: {word}" for word in paths)])


def parse(parser: argparse.ArgumentParser, words: list[str], *, has_more: bool = False) -> str:
    """What argparse says of a command line; empty if it takes it."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            parser.parse_known_args(words) if has_more else parser.parse_args(words)
    except SystemExit:
        return output.getvalue().strip().splitlines()[-1] if output.getvalue().strip() else "help"
    return ""


def _module(name: str, words: list[str]) -> str:
    if name == "pytest":
        return _pytest(words) if words[:1] != ["tests_e2e"] else _arguments(["signoff", *words])
    if not (PROJECT / name.replace(".", "/")).exists() and not (PROJECT / f"{name.replace('.', '/')}.py").exists():
        return f"no module {name}"
    module = import_module(name if (PROJECT / f"{name.replace('.', '/')}.py").exists() else f"{name}.__main__")
    several = module.command_parsers() if hasattr(module, "command_parsers") else {}
    if words and words[0] in several:
        return parse(several[words[0]], words[1:])
    parser = getattr(module, "options_parser", None) or getattr(module, "parser", None)
    return parse(parser(), words) if parser else f"{name} says nothing of its options"


@cache
def goals() -> frozenset[str]:
    """Of make."""
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return frozenset(name for line in re.findall(r"^([a-z][a-z -]*):", text, re.M) for name in line.split())


@cache
def variables() -> frozenset[str]:
    """Of make, that a user sets."""
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^unexport (.*)", text, re.M)[0].split())


def _goal(words: list[str]) -> str:
    targets = [word for word in words if "=" not in word]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if wrong := [name for name in targets if name not in goals()] + [
        name for name in values if name not in variables()
    ]:
        return f"make knows no {', '.join(wrong)}"
    own = {command.name for command in COMMANDS}
    extra = shlex.split(values.get("ARGS", ""))
    if not targets or targets[0] not in own or not extra:
        return ""
    if targets[0] in ("verify", "rebuild"):
        extra.insert(0, values.get("REPORT", "reports/latest"))
    return _arguments([targets[0], *map(_stand_in, extra)])


def _files(words: list[str]) -> str:
    return ", ".join(
        f"no such file: {word}" for word in words if not (PROJECT / word).exists() and not set("*$") & set(word)
    )
