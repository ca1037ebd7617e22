#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: kconfiglib 14.1.0 (PyPI).
# Guess: load_config() warns of a line that can have no effect; it does so for a bad value and for one set twice.
# Seen: three kinds are dropped with no warning: an option whose dependency is off, one that has no prompt, and
#       one that no Kconfig file knows (which only missing_syms has).
# Matters: a fragment for a test kernel that asks for an option by a name of last year: the build goes on without
#          it. Look each one up afterwards.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kconfiglib==14.1.0

cat > probe.py <<'END'
import kconfiglib

with open("Kconfig", "w") as file:
    file.write('config BASE\n\tbool "base"\nconfig NEEDS\n\tbool "needs"\n\tdepends on BASE\nconfig HIDDEN\n\tbool\n')
for line in ("CONFIG_BASE=m", "CONFIG_NEEDS=y", "CONFIG_HIDDEN=y", "CONFIG_GONE=y"):
    with open("fragment", "w") as file:
        file.write(line + "\n")
    kconfig = kconfiglib.Kconfig("Kconfig", warn_to_stderr=False)
    kconfig.load_config("fragment")
    symbol = kconfig.syms.get(line.split("=")[0].removeprefix("CONFIG_"))
    value = symbol.str_value if symbol else None
    print(f"{line}: value {value}, {len(kconfig.warnings)} warnings, missing {kconfig.missing_syms}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
CONFIG_BASE=m: value n, 1 warnings, missing []
CONFIG_NEEDS=y: value n, 0 warnings, missing []
CONFIG_HIDDEN=y: value n, 0 warnings, missing []
CONFIG_GONE=y: value None, 0 warnings, missing [('GONE', 'y')]
END
if ! diff -u noted seen; then
    echo 'CHANGED: kconfiglib warns of these lines in another way' >&2
    exit 1
fi
cat seen
