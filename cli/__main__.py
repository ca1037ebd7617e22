# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof COMMAND ...``: finds the command in the table, and ends with its exit status."""

from __future__ import annotations

import sys

from cli.table import COMMANDS, find
from common.program import FAILED, end_with

HELP = ("-h", "--help")


def main(argv: list[str]) -> int:
    """Run a command; returns its exit status.

    :raises UserInputError: there is no such command.
    """
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], *HELP[:1]]
    if not argv or argv[0] in HELP:
        sys.stdout.write(overview())
        return 0
    command, arguments = find(argv[0]), argv[1:]
    if arguments and arguments[0] in HELP:
        sys.stdout.write(command.options_parser().format_help())
        return 0
    return command.main(arguments)


def overview() -> str:
    """The table, for people."""
    width = max(len(command.name) for command in COMMANDS)
    lines = (f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS)
    return "\n".join(
        [
            "usage: ./sealproof COMMAND [OPTIONS]",
            "",
            "End-to-end proof that a Linux/KVM host cannot read its guests' memory.",
            "",
            *lines,
            "",
            "'./sealproof COMMAND --help' shows options and examples. Start with: ./sealproof doctor",
            "",
        ]
    )


if __name__ == "__main__":
    end_with(main, next((command.failed for command in COMMANDS if sys.argv[1:2] == [command.name]), FAILED))
