#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sbomdiff 0.6.0 (PyPI), with lib4sbom 0.10.4.
# Guess: two bills of material that list other versions of a package differ, and the status is 1.
# Seen: of the packages of one name only the first is looked at, in each file: of two kernels the second may be another
#       version, or be gone, and there are 0 changes and the status is 0. A package without a version, which SPDX
#       allows, is not looked at either. A change of the first one is seen, with status 1.
# Matters: a host with two kernels, or a machine with two copies of a library: a gate in CI passes what was to be seen.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sbomdiff==0.6.0 lib4sbom==0.10.4

cat > make.py <<'END'
import json


def write(name, *packages):
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "host",
        "documentNamespace": f"https://example.com/{name}",
        "creationInfo": {"created": "2026-01-01T00:00:00Z", "creators": ["Tool: sample"]},
        "packages": [
            {"SPDXID": f"SPDXRef-{number}", "downloadLocation": "NOASSERTION", "filesAnalyzed": False, **package}
            for number, package in enumerate(packages)
        ],
    }
    with open(f"{name}.spdx.json", "w", encoding="ascii") as file:
        json.dump(document, file)


new, old = {"name": "linux", "versionInfo": "6.12.1"}, {"name": "linux", "versionInfo": "6.1.9"}
write("two", new, old)
write("another-second", new, {**old, "versionInfo": "6.1.10"})
write("one", new)
write("another-first", {**new, "versionInfo": "6.12.2"}, old)
write("more", new, old, {"name": "firmware"})
END
python3 make.py
for other in another-second one more another-first; do
    status=0
    venv/bin/sbomdiff two.spdx.json "$other.spdx.json" > out || status=$?
    echo "two, $other: $(grep -E '^(Version|Removed|New)' out | tr -s ' ' | paste -sd,), status $status"
done > seen

cat > noted <<'END'
two, another-second: Version changes: 0,Removed packages: 0,New packages: 0, status 0
two, one: Version changes: 0,Removed packages: 0,New packages: 0, status 0
two, more: Version changes: 0,Removed packages: 0,New packages: 0, status 0
two, another-first: Version changes: 1,Removed packages: 0,New packages: 0, status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: sbomdiff compares packages in another way' >&2
    exit 1
fi
cat seen
