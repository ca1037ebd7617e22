#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: pyghmi 1.6.19 (PyPI): its client and its BMC (pyghmi.ipmi.bmc), on loopback.
# Guess: the two halves of one package understand each other: pyghmi's client can be tested against pyghmi's fake
#        BMC.
# Seen: the client asks for a SHA-256 session, the BMC answers with the 20 bytes of SHA-1, and the client dies
#       of struct.error in the handshake. ipmitool, which falls back, works with that BMC.
# Matters: tests of power control for bare-metal hosts without a BMC at hand.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyghmi==1.6.19

cat > fake_bmc.py <<'END'
from pyghmi.ipmi.bmc import Bmc

class FakeBmc(Bmc):
    def get_power_state(self):
        return "off"

FakeBmc({"admin": "password"}, port=26234, address="127.0.0.1").listen()
END
timeout 60 venv/bin/python fake_bmc.py &
trap 'kill "$!"; rm -rf "$dir"' EXIT
for _ in $(seq 100); do
    grep -q ':667A ' /proc/net/udp /proc/net/udp6 && break  # the port
    sleep 0.1
done
cat > probe.py <<'END'
import struct

from pyghmi.ipmi.command import Command

try:
    print(Command("127.0.0.1", "admin", "password", port=26234).get_power())
except struct.error as error:
    print("struct.error:", error)
END
timeout 50 venv/bin/python probe.py > seen

cat > noted <<'END'
struct.error: pack expected 32 items for packing (got 20)
END
if ! diff -u noted seen; then
    echo 'CHANGED: client and BMC of pyghmi meet in another way' >&2
    exit 1
fi
cat seen
