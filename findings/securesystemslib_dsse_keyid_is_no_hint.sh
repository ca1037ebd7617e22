#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: securesystemslib 1.6.0 (PyPI), securesystemslib.dsse.Envelope.
# Guess: in DSSE the keyid is optional and only a hint which key to try: a good signature verifies with the right
#        key, whatever its keyid says.
# Seen: an envelope without keyid raises KeyError when read, and one whose keyid is another name for the same
#       key does not verify. The keyid of SSlibKey is a hash of its own making, not one of the PEM or DER.
# Matters: envelopes made by other DSSE tools (cosign, ssh or openssl by hand), and keys that were loaded with a
#          keyid of one's own.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check securesystemslib==1.6.0 cryptography==50.0.2

cat > probe.py <<'END'
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner

signer = CryptoSigner.generate_ed25519()

def verify(change):
    envelope = Envelope(b"payload", "text/plain", {})
    envelope.sign(signer)
    parsed = envelope.to_dict()
    change(parsed["signatures"][0])
    try:
        return len(Envelope.from_dict(parsed).verify([signer.public_key], threshold=1))
    except (KeyError, VerificationError) as error:
        return type(error).__name__

print("unchanged:", verify(lambda signature: None))
print("without keyid:", verify(lambda signature: signature.pop("keyid")))
print("another name for the key:", verify(lambda signature: signature.update(keyid="release-key")))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
unchanged: 1
without keyid: KeyError
another name for the key: VerificationError
END
if ! diff -u noted seen; then
    echo 'CHANGED: securesystemslib uses the keyid in another way' >&2
    exit 1
fi
cat seen
