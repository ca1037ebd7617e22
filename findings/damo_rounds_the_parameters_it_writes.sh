#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: damo 3.4.3 (PyPI), the user-space tool of the kernel's DAMON.
# Guess: "damo args damon --format json" writes the parameters that it was given, so that --kdamonds with that file
#        gives the same ones.
# Seen: numbers are written for people, and read back from that: an interval of 1234567 us is "1.235 s", 433 us
#       longer, and a quota of 1234567 bytes "1.177 MiB", 394 bytes less. Addresses are kept. There is no warning.
#       --raw keeps all.
# Matters: whoever keeps, compares or shares DAMON's parameters as files: write them with --raw.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check damo==3.4.3

cat > show.py <<'END'
import json
import sys

context = json.load(sys.stdin)["kdamonds"][0]["contexts"][0]
scheme = context["schemes"][0]
print(f"{sys.argv[1]}: sampling {context['intervals']['sample_us']}, quota {scheme['quotas']['sz_bytes']},",
      f"from {context['targets'][0]['regions'][0]['start']}")
END
damo() { venv/bin/damo args damon --format json "$@" 2> /dev/null; } # says there which features the kernel has not
given=(--ops paddr --monitoring_intervals 1234567us 5s 60s --regions 1234567-2345678
    --damos_action pageout --damos_quotas 0ms 1234567B 1s)
{
    damo "${given[@]}" --raw | tee raw.json | venv/bin/python show.py 'with --raw'
    damo --kdamonds raw.json --raw | venv/bin/python show.py 'read back'
    damo "${given[@]}" | tee words.json | venv/bin/python show.py 'without'
    damo --kdamonds words.json --raw | venv/bin/python show.py 'read back'
} > seen

cat > noted <<'END'
with --raw: sampling 1234567, quota 1234567, from 1234567
read back: sampling 1234567, quota 1234567, from 1234567
without: sampling 1.235 s, quota 1.177 MiB, from 1,234,567
read back: sampling 1235000, quota 1234173, from 1234567
END
if ! diff -u noted seen; then
    echo 'CHANGED: damo writes or reads parameters in another way' >&2
    exit 1
fi
cat seen
