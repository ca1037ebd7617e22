#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sigstore 4.5.1 (PyPI), with sigstore-models 0.0.6, which it reads bundles by.
# Guess: a bundle v0.3 whose verification material is a public key (by its hint), which the format has beside the
#        certificate, is read by sigstore.models.Bundle as by sigstore-models; only whether to trust the key is open.
# Seen: sigstore-models reads it. Bundle.from_json() raises InvalidBundle and asks for a certificate: it has no way
#       to be given a key.
# Matters: what is signed offline by a key of one's own can be handed out as a bundle, but not be checked by
#          sigstore's own Python client; other clients have to be named.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sigstore==4.5.1 sigstore-models==0.0.6
export HOME="$dir"

cat > try.py <<'END'
import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sigstore.models import Bundle
from sigstore_models.bundle.v1 import Bundle as Model

kind, payload = "application/vnd.in-toto+json", b"{}"
encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload])
signature = Ed25519PrivateKey.generate().sign(encoded)
envelope = {
    "payloadType": kind,
    "payload": base64.b64encode(payload).decode(),
    "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": "k"}],
}
text = json.dumps({
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {
        "publicKey": {"hint": "k"}, "tlogEntries": [], "timestampVerificationData": {"rfc3161Timestamps": []},
    },
    "dsseEnvelope": envelope,
})
print("sigstore-models: key", Model.from_json(text).verification_material.public_key.hint)
try:
    Bundle.from_json(text)
    print("sigstore: read")
except Exception as error:
    print(f"sigstore: {type(error).__name__}: {error}")
END
venv/bin/python try.py > seen 2>&1 || true

cat > noted <<'END'
sigstore-models: key k
sigstore: InvalidBundle: expected certificate in bundle
END
if ! diff -u noted seen; then
    echo 'CHANGED: sigstore reads a bundle by key in another way' >&2
    exit 1
fi
cat seen
