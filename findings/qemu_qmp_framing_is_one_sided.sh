#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: qemu.qmp 0.0.6 (PyPI).
# Guess: QMP is a protocol of lines: the client ends each command with a newline, and takes JSON however QEMU
#        breaks it, also from a monitor with pretty=on.
# Seen: the client sends no newline at all, so a stand-in for QEMU that reads lines never gets its first
#       command. What it receives must be one line an object: a reply laid out as by -mon pretty=on ends the
#       session (ExecInterruptedError, and disconnect() raises DeserializationError).
# Matters: stand-ins for QEMU in tests, QMP proxies and loggers between the two, and QEMU command lines copied from
#          a debugging session.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check qemu.qmp==0.0.6

cat > probe.py <<'END'
import asyncio
import json

from qemu.qmp import QMPClient, QMPError

VERSION = {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}
GREETING = {"QMP": {"version": VERSION, "capabilities": []}}

def stand_in(received, indent):
    async def serve(reader, writer):
        writer.write(json.dumps(GREETING).encode() + b"\r\n")
        while data := await reader.read(65536):
            received.append(data)
            command = json.loads(data)
            reply = {"return": {}, **({"id": command["id"]} if "id" in command else {})}
            layout = indent if command["execute"] == "query-status" else None
            writer.write(json.dumps(reply, indent=layout).encode() + b"\r\n")
        writer.close()
    return serve

async def talk(indent):
    received = []
    server = await asyncio.start_unix_server(stand_in(received, indent), "qmp.sock")
    client = QMPClient()
    try:
        await asyncio.wait_for(client.connect("qmp.sock"), 10)
        outcome = await asyncio.wait_for(client.execute("query-status"), 10)
    except QMPError as error:
        outcome = type(error).__name__
    try:
        await client.disconnect()
    except QMPError as error:
        outcome = f"{outcome}, then {type(error).__name__}"
    server.close()
    return outcome, [data.endswith(b"\n") for data in received]

print("one line a reply:", asyncio.run(talk(None)))
print("as pretty=on has it:", asyncio.run(talk(4)))
END
venv/bin/python probe.py > seen 2> /dev/null

cat > noted <<'END'
one line a reply: ({}, [False, False])
as pretty=on has it: ('ExecInterruptedError, then DeserializationError', [False, False])
END
if ! diff -u noted seen; then
    echo 'CHANGED: qemu.qmp frames its messages in another way' >&2
    exit 1
fi
cat seen
