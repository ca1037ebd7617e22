# SPDX-License-Identifier: GPL-2.0-or-later
"""The stand-in's power switch, as an inventory names it: resets the machine whose QMP is at a socket.

usage: power.py SOCKET          standard library alone; exit status 0 once it was done
"""

from __future__ import annotations

import json
import socket
import sys

TIMEOUT = 20.0


def main(path: str) -> None:
    """Switch it off and on.

    :raises OSError: nobody is at the socket. :raises ValueError: what is there is not QMP.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(path)
        lines = sock.makefile("rw", encoding="utf-8")
        json.loads(lines.readline())  # the greeting
        for command in ("qmp_capabilities", "system_reset"):
            lines.write(json.dumps({"execute": command}) + "\n")
            lines.flush()
            while "return" not in json.loads(lines.readline()):  # events come in between
                continue


if __name__ == "__main__":
    main(sys.argv[1])
