#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tpm2_eventlog of tpm2-tools 5.4-1 (Debian 12). It needs libcurl3-gnutls, which git brings.
# Guess: the PCR values under "pcrs:" are those that a TPM has after the events of the log; EV_NO_ACTION, which by the
#        TCG's PC Client firmware profile is never extended, changes nothing but, as StartupLocality, how PCR 0 begins.
# Seen: the zero digest of an EV_NO_ACTION event in the middle is extended like any other, and the locality is not used.
#       With StartupLocality 0, 3 or 4 in the log PCR 0 is one and the same wrong value. The status is 0.
# Matters: whoever compares the replayed PCR 0 with a quote: no machine whose firmware logs its locality can pass.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

version=3.2.1-3
packages=(tpm2-tools=5.4-1 libtss2-mu0="$version" libtss2-rc0="$version" libtss2-tctildr0="$version")
packages+=(libtss2-esys-3.0.2-0="$version" libtss2-sys1="$version")
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"

cat > make.py <<'END'
import hashlib
import struct

SHA256, EV_NO_ACTION, EV_S_CRTM_VERSION = 0xB, 3, 8
SPECIFICATION = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, SHA256, 32, 0)
FIRST = struct.pack("<II20xI", 0, EV_NO_ACTION, len(SPECIFICATION)) + SPECIFICATION  # in the format of TPM 1.2
DATA = "1.0\0".encode("utf-16-le")
DIGEST = hashlib.sha256(DATA).digest()


def event(kind, digest, data):
    """An event of PCR 0 with one digest."""
    return struct.pack("<IIIH", 0, kind, 1, SHA256) + digest + struct.pack("<I", len(data)) + data


for locality in (None, 0, 3, 4):
    log = FIRST
    if locality is not None:
        log += event(EV_NO_ACTION, bytes(32), b"StartupLocality\0" + bytes([locality]))
    with open(f"log.{locality}", "wb") as file:
        file.write(log + event(EV_S_CRTM_VERSION, DIGEST, DATA))
    print(locality, hashlib.sha256(bytes([0] * 31 + [locality or 0]) + DIGEST).hexdigest()[:16])
END
python3 make.py | while read -r locality right; do
    status=0
    root/usr/bin/tpm2_eventlog "log.$locality" > out 2> /dev/null || status=$?
    echo "StartupLocality $locality: PCR 0 is $right, replayed $(tail -n 1 out | grep -o '0x.\{16\}'), status $status"
done > seen

cat > noted <<'END'
StartupLocality None: PCR 0 is 5ebb0a56698fdb6b, replayed 0x5ebb0a56698fdb6b, status 0
StartupLocality 0: PCR 0 is 5ebb0a56698fdb6b, replayed 0xcd37ad4d7ca61a49, status 0
StartupLocality 3: PCR 0 is d3e975ebd27ca2a5, replayed 0xcd37ad4d7ca61a49, status 0
StartupLocality 4: PCR 0 is 95cc4bf7d7c8ddf3, replayed 0xcd37ad4d7ca61a49, status 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: tpm2_eventlog replays EV_NO_ACTION in another way' >&2
    exit 1
fi
cat seen
