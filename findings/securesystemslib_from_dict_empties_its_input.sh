#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: securesystemslib 1.6.0 (PyPI), securesystemslib.dsse.Envelope.
# Guess: Envelope.from_dict() only reads the dict that it is given; one can write the dict out, or parse it a
#        second time, afterwards.
# Seen: it pops the fields out of the caller's nested dicts: the signatures are {} afterwards, and a second
#       from_dict() of the same dict raises KeyError.
# Matters: verify first, then archive the parsed JSON: the archive has lost its signatures. Give from_dict() a deep
#          copy.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check securesystemslib==1.6.0 cryptography==50.0.2

cat > probe.py <<'END'
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

envelope = Envelope(b"payload", "text/plain", {})
envelope.sign(CryptoSigner.generate_ed25519())
parsed = envelope.to_dict()
print("before:", [sorted(signature) for signature in parsed["signatures"]])
Envelope.from_dict(parsed)
print("after:", parsed["signatures"])
try:
    Envelope.from_dict(parsed)
except KeyError as error:
    print("again: KeyError", error)
END
venv/bin/python probe.py > seen

cat > noted <<'END'
before: [['keyid', 'sig']]
after: [{}]
again: KeyError 'sig'
END
if ! diff -u noted seen; then
    echo 'CHANGED: Envelope.from_dict() treats its input in another way' >&2
    exit 1
fi
cat seen
