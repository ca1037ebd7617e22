#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: in-toto-attestation 0.9.3 (PyPI).
# Guess: the Statement v1 specification makes the predicate optional ("MAY be omitted"): validate() takes a
#        statement whose predicate type says it all, with an empty predicate.
# Seen: validate() raises ValueError "Predicate object required", for an empty predicate as well as for one left
#       out.
# Matters: attestations that only bind a subject to a predicate type: put at least one field in.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check in-toto-attestation==0.9.3

cat > probe.py <<'END'
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

subject = ResourceDescriptor(name="report", digest={"sha256": "a" * 64}).pb
for predicate in ({}, {"a": "b"}):
    try:
        Statement([subject], "https://example.org/reviewed/v1", predicate).validate()
        print(predicate, "valid")
    except ValueError as error:
        print(predicate, error)
END
venv/bin/python probe.py > seen

cat > noted <<'END'
{} Predicate object required
{'a': 'b'} valid
END
if ! diff -u noted seen; then
    echo 'CHANGED: in-toto-attestation takes an empty predicate' >&2
    exit 1
fi
cat seen
