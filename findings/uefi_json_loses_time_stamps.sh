#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: virt-firmware 26.10 and uefivars 1.2 (PyPI).
# Guess: the JSON of UEFI variables goes between the two: both write "version": 2 and the same lists, and
#        virt-firmware's source calls its own compatible with uefivars.
# Seen: the time stamp of an authenticated variable is "time" in one and "timestamp" in the other. Each reads the
#       other's file, drops the unknown key, and exits with 0. UEFI wants the stamp of the next update to be later, so
#       a lost stamp is a change of the variable's state.
# Matters: whoever makes variable stores for guests with one tool and measures, compares or converts with the other.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check virt-firmware==26.10 uefivars==1.2

cat > show.py <<'END'
import json
import sys

with open(sys.argv[1], encoding="ascii") as file:
    for variable in json.load(file)["variables"]:
        if variable["name"] == "Policy":
            shown = (f"{key}={variable[key]}" for key in sorted(variable.keys() - {"name", "guid"}))
            print(f"{sys.argv[2]}:", *shown)
END
for key in time timestamp; do
    cat > "$key.json" <<END
{"version": 2, "variables": [{"name": "Policy", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 39,
                              "data": "aabb", "$key": "ea070b1d0c0000000000000000000000"}]}
END
    venv/bin/virt-fw-vars --input "$key.json" --output-json virt.json 2> /dev/null
    venv/bin/python show.py virt.json "$key, virt-firmware"
    venv/bin/uefivars -i json -I "$key.json" -o json -O aws.json 2> /dev/null
    venv/bin/python show.py aws.json "$key, uefivars"
done > seen

cat > noted <<'END'
time, virt-firmware: attr=39 data=aabb time=ea070b1d0c0000000000000000000000
time, uefivars: attr=39 data=aabb
timestamp, virt-firmware: attr=39 data=aabb
timestamp, uefivars: attr=39 data=aabb timestamp=ea070b1d0c0000000000000000000000
END
if ! diff -u noted seen; then
    echo 'CHANGED: virt-firmware or uefivars keeps time stamps in another way' >&2
    exit 1
fi
cat seen
