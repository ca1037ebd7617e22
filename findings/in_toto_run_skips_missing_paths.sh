#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: in-toto 3.1.0 (PyPI).
# Guess: in-toto-run fails when a path of its materials or products does not exist: it "returns a non-zero value on
#        failure", and the link that it signs says what went in and came out.
# Seen: such a path is left out of the signed link, with no word unless --verbose is given, and the status is 0. A
#       misspelt --products is a step that made nothing. in-toto-record does the same.
# Matters: whoever signs what a build or test took in: a renamed folder is noticed by the verifier at the earliest, if
#          the layout requires the file by name.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check in-toto==3.1.0 securesystemslib==1.6.0 cryptography==50.0.2

cat > key.py <<'END'
from pathlib import Path

from securesystemslib.signer import CryptoSigner

Path("key.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
END
cat > show.py <<'END'
import json
from pathlib import Path

for path in sorted(Path().glob("*.link")):
    link = json.loads(path.read_text(encoding="utf-8"))
    signed = link["signed"]
    print(signed["name"], sorted(signed["materials"]), sorted(signed["products"]), len(link["signatures"]), "signature")
END
venv/bin/python key.py
echo source > source.c
run() {
    local status=0
    "$@" 2>&1 || status=$?
    echo "status $status"
}
{
    run venv/bin/in-toto-run --step-name run --signing-key key.pem --materials source.c misspelt.c \
        --products misspelt.o -- cp source.c program.o
    run venv/bin/in-toto-record start --step-name record --signing-key key.pem --materials misspelt.c
    run venv/bin/in-toto-record stop --step-name record --signing-key key.pem --products misspelt.o
    venv/bin/python show.py
} > seen

cat > noted <<'END'
status 0
status 0
status 0
record [] [] 1 signature
run ['source.c'] [] 1 signature
END
if ! diff -u noted seen; then
    echo 'CHANGED: in-toto records paths that do not exist in another way' >&2
    exit 1
fi
cat seen
