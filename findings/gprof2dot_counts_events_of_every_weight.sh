#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: gprof2dot 2025.4.14 (PyPI), -f perf.
# Guess: the shares in the graph are those of "perf report" for the same data: of an event, weighted by the period.
# Seen: each sample counts as one. The period, which stands on the sample's line, is not read, and samples of all events
#       are added up: a function with 98 % of the cycles has 25 %, one sample of 5 cache misses another 25 %.
# Matters: perf record samples by a frequency unless it is told a period, so periods differ by orders of magnitude; a
#          record of two events gives shares of neither.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gprof2dot==2025.4.14

cat > make.py <<'END'
SAMPLES = (
    ("copies", 1000000, "cycles"),
    ("waits", 10000, "cycles"),
    ("waits", 10000, "cycles"),
    ("misses", 5, "cache-misses"),
)
for second, (function, period, event) in enumerate(SAMPLES):
    print(f"qemu  100/100   10.00000{second}: {period:10} {event}: ")
    print(f"\tffffffff81000010 {function}+0x10 ([kernel.kallsyms])")
    print("\tffffffff81000100 runs+0x10 ([kernel.kallsyms])\n")
END
python3 make.py > perf.script
awk '/cycles/ { period = $4 } /misses:/ { period = 0 } /copies/ { part += period } /copies|waits/ { all += period }
    END { printf "copies, of the cycles: %.2f%%\n", 100 * part / all }' perf.script > seen
venv/bin/gprof2dot --format perf --node-thres 0 --edge-thres 0 perf.script \
    | sed -n 's/^.*label="\[kernel.kallsyms\]\\n\([a-z]*\)\\n\([0-9.]*%\).*$/gprof2dot: \1 \2/p' | sort >> seen

cat > noted <<'END'
copies, of the cycles: 98.04%
gprof2dot: copies 25.00%
gprof2dot: misses 25.00%
gprof2dot: runs 100.00%
gprof2dot: waits 50.00%
END
if ! diff -u noted seen; then
    echo 'CHANGED: gprof2dot weighs samples of perf in another way' >&2
    exit 1
fi
cat seen
