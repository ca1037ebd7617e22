# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof completion bash|zsh``: a script that completes commands, their options, and the values of some.

It is made from the table of commands and from each command's own options, and starts no program when it completes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from shlex import quote

from cli.table import COMMANDS, Command


@dataclass(frozen=True, slots=True)
class Option:
    """An option, or the arguments without one.

    :ivar names: of an option, such as ``-x`` and ``--exitfirst``. :ivar choices: the values that it takes, if they are
        known. :ivar takes_value: whether a value follows it. :ivar help: one line.
    """

    names: tuple[str, ...]
    choices: tuple[str, ...]
    takes_value: bool
    help: str


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof completion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    return parser


def main(argv: Sequence[str]) -> int:
    """Print the script."""
    sys.stdout.write("".join(f"{line}\n" for line in SCRIPTS[options_parser().parse_args(argv).shell]()))
    return 0


def options(command: Command) -> list[Option]:
    """What may follow a command."""
    return [
        Option(
            tuple(action.option_strings),
            tuple(map(str, action.choices or ())),
            bool(action.option_strings) and action.nargs != 0,
            " ".join((action.help or "").replace("%(", "(").split()),
        )
        for action in command.options_parser()._actions  # noqa: SLF001  as argcomplete and shtab read it
        if action.help != argparse.SUPPRESS
    ]


def bash() -> Iterator[str]:
    """For bash: a function, and the line that registers it."""
    yield "# SPDX-License-Identifier: GPL-2.0-or-later"
    yield "# Made by: ./sealproof completion bash"
    yield "_sealproof() {"
    yield "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]-}"
    yield "    COMPREPLY=()"
    yield '    if [ "$COMP_CWORD" -eq 1 ]; then'
    yield from _replies("        ", [command.name for command in COMMANDS])
    yield "        return"
    yield "    fi"
    yield "    case $command:$before in"
    for command in COMMANDS:
        for option in options(command):
            if option.takes_value:
                yield f"    {' | '.join(f'{command.name}:{name}' for name in option.names)})"
                yield from _replies("        ", option.choices)  # none: bash then completes files
                yield "        return ;;"
    yield "    esac"
    yield "    case $command in"
    for command in COMMANDS:
        words = [word for option in options(command) for word in option.names or option.choices]
        yield f"    {command.name})"
        yield from _replies("        ", words)
        yield "        ;;"
    yield "    esac"
    yield "}"
    yield "complete -o default -F _sealproof sealproof ./sealproof"


def _replies(indent: str, words: Sequence[str]) -> Iterator[str]:
    if words:
        yield f'{indent}mapfile -t COMPREPLY < <(compgen -W {quote(" ".join(words))} -- "$word")'


def zsh() -> Iterator[str]:
    """For zsh: a file ``_sealproof`` in a folder of ``$fpath``."""
    yield "#compdef sealproof ./sealproof"
    yield "# SPDX-License-Identifier: GPL-2.0-or-later"
    yield "# Made by: ./sealproof completion zsh"
    yield "_sealproof() {"
    yield "    local -a commands=("
    for command in COMMANDS:
        yield f"        {quote(f'{command.name}:{command.summary}')}"
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield "        _describe command commands"
    yield "        return"
    yield "    fi"
    yield "    local command=$words[2]"
    yield "    shift words"
    yield "    (( CURRENT-- ))"
    yield "    case $command in"
    for command in COMMANDS:
        yield f"    {command.name})"
        yield "        _arguments -s \\"
        for option in options(command):
            for name in option.names:
                yield f"            {quote(f'*{name}{_text(option.help)}{_value(option)}')} \\"
        # One rule for all arguments without an option: _arguments takes no second one.
        values = [_value(option) for option in options(command) if not option.names and option.choices]
        yield f"            {quote('*' + ''.join(values or [':file:_files']))}"
        yield "        ;;"
    yield "    esac"
    yield "}"
    yield '_sealproof "$@"'


def _text(help_line: str) -> str:
    """A description for ``_arguments``, where some characters need a backslash."""
    escaped = "".join(f"\\{letter}" if letter in "[]:\\" else letter for letter in help_line)
    return f"[{escaped}]" if escaped else ""


def _value(option: Option) -> str:
    if option.choices:
        return f":value:({' '.join(option.choices)})"
    return ":value:_files" if option.takes_value else ""


SCRIPTS: dict[str, Callable[[], Iterator[str]]] = {"bash": bash, "zsh": zsh}
