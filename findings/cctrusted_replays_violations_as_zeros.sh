#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: cctrusted-base 0.5.0 (PyPI).
# Guess: EventLogs.replay() of the log of IMA gives the register that Linux has extended, as for the events of the boot.
#        For a violation, a file that was open for writing when it was measured, the log has a digest of zeros, and
#        Linux extends ones in its place, to make it seen (ima_add_template_entry()).
# Seen: the zeros are extended as they are. One violation anywhere, and the replayed value is not the register's, with
#       no error. Without a violation it is.
# Matters: whoever compares the replayed value with a quote: one log file that was open for writing is enough, and it
#          looks like a forged log. Replace a digest of zeros of IMA's events by ones before.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cctrusted-base==0.5.0

cat > probe.py <<'END'
import hashlib
import struct

from cctrusted_base.eventlog import EventLogs, TcgEventLog
from cctrusted_base.tcg import TcgAlgorithmRegistry

SHA1, SHA1_SIZE, EV_NO_ACTION, IMA = TcgAlgorithmRegistry.TPM_ALG_SHA1, 20, 3, 10
DATA = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, SHA1, SHA1_SIZE, 0)
BOOT = struct.pack("<II20xI", 1, EV_NO_ACTION, len(DATA)) + DATA
FILES = {"/usr/bin/init": b"init", "/usr/bin/login": b"login"}


def line(digest, content, path):
    return f"{IMA} {digest.hex()} ima-ng sha1:{content.hex()} {path}\n"


def template(path, content):
    """The digest of ima-ng's fields, each behind its length."""
    fields = (b"sha1:\0" + content, path.encode() + b"\0")
    return hashlib.sha1(b"".join(struct.pack("<I", len(field)) + field for field in fields)).digest()


for violations in (0, 1):
    log, register = "", bytes(SHA1_SIZE)
    for path, content in FILES.items():
        content = hashlib.sha1(content).digest()
        log += line(template(path, content), content, path)
        register = hashlib.sha1(register + template(path, content)).digest()
    as_zeros = register
    for _ in range(violations):
        log += line(bytes(SHA1_SIZE), bytes(SHA1_SIZE), "/var/log/messages")
        as_zeros = hashlib.sha1(register + bytes(SHA1_SIZE)).digest()
        register = hashlib.sha1(register + b"\xff" * SHA1_SIZE).digest()
    logs = EventLogs(BOOT, log.encode(), TcgEventLog.TCG_FORMAT_PCCLIENT)
    logs.select(None, None)
    replayed = bytes(EventLogs.replay(logs.event_logs)[IMA][SHA1])
    print(f"violations: {violations}; the register is met: {replayed == register}, with zeros: {replayed == as_zeros}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
violations: 0; the register is met: True, with zeros: True
violations: 1; the register is met: False, with zeros: True
END
if ! diff -u noted seen; then
    echo 'CHANGED: cctrusted-base replays the log of IMA in another way' >&2
    exit 1
fi
cat seen
