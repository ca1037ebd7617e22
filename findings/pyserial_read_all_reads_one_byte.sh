#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: pyserial 3.5 (PyPI), a console on a TCP socket by serial_for_url("socket://..."), on a loopback port.
# Guess: in_waiting is how many bytes can be read at once, and read_all() reads them, as with a serial line: socket://
#        is there to be used in its place.
# Seen: in_waiting is 1 if there is anything, and so read_all() reads one byte of a hundred. With the same bytes in a
#       terminal it is 100, and with loop:// too.
# Matters: QEMU's "-serial tcp:" and terminal servers: read(in_waiting or 1) reads a boot's console byte by byte, and
#          who calls read_all() once has one character of it. Read with a size and a timeout.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyserial==3.5

cat > probe.py <<'END'
import os
import socket
import time
import tty

import serial

TEXT = b"x" * 100


def show(what, line):
    time.sleep(0.5)  # for the bytes to arrive
    print(f"{what}: in_waiting {line.in_waiting}, read_all() reads {len(line.read_all())}", end="")
    line.timeout = 0.5
    print(f", then read(1000) {len(line.read(1000))}")


with socket.create_server(("127.0.0.1", 0)) as server:
    with serial.serial_for_url(f"socket://127.0.0.1:{server.getsockname()[1]}") as line:
        peer, _ = server.accept()
        peer.sendall(TEXT)
        show("socket", line)
        peer.close()

master, slave = os.openpty()
tty.setraw(slave)
with serial.Serial(os.ttyname(slave)) as line:
    os.write(master, TEXT)
    show("terminal", line)

with serial.serial_for_url("loop://") as line:
    line.write(TEXT)
    show("loop", line)
END
venv/bin/python probe.py > seen

cat > noted <<'END'
socket: in_waiting 1, read_all() reads 1, then read(1000) 99
terminal: in_waiting 100, read_all() reads 100, then read(1000) 0
loop: in_waiting 100, read_all() reads 100, then read(1000) 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: pyserial counts the bytes of a socket in another way' >&2
    exit 1
fi
cat seen
