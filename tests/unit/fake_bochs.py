# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that looks like a Bochs from outside: the machine's serial lines, its own log, its end.

Started as Bochs is. Beside the debugger's commands lies ``script.json``: ``console`` and ``beats`` (lines), ``stderr``,
``saved`` (what it says of having saved itself), and ``then``: ``linger`` or ``exit N``. It does not heed SIGTERM.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    commands = Path(sys.argv[sys.argv.index("-rc") + 1])
    script = json.loads((commands.parent / "script.json").read_text())

    def save(*_: object) -> None:
        Path(os.environ["SEALPROOF_SAVE"], "saved").write_text(script["saved"])

    signal.signal(signal.SIGUSR1, save)
    if "-r" in sys.argv:
        state = Path(sys.argv[sys.argv.index("-r") + 1])
        settings = state / "config"
        script["console"] = (state / "console").read_text().splitlines()
    else:
        settings = Path(sys.argv[sys.argv.index("-f") + 1])
    lines = dict(re.findall(r"(com\d): .*dev=(\S+)", settings.read_text()))
    if commands.read_text() != "c\n":
        signal.pause()  # in its debugger
    for name, messages in (("com2", script.get("beats", [])), ("com1", script.get("console", []))):
        with Path(lines[name]).open("w") as line:  # as Bochs does: not by the descriptor that it was given
            line.writelines(f"{text}\r\n" for text in messages)
    sys.stderr.write("".join(f"{text}\n" for text in script.get("stderr", [])))
    sys.stderr.flush()
    then, _, number = script.get("then", "linger").partition(" ")
    if then == "exit":
        os._exit(int(number))
    while True:
        signal.pause()


main()
