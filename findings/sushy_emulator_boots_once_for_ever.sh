#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sushy-tools 2.2.0 (PyPI), its Redfish emulator with the fake driver.
# Guess: a boot source override for the next boot ("Once" in Redfish's ComputerSystem schema) is kept as asked, or
#        refused.
# Seen: the request is a success (204), and the override is "Continuous". The word is not looked at: each answer has
#       "Continuous" written in, after a request for "Disabled" too, and "Disabled" alone is a bad request (400).
# Matters: tests of code that installs by one network boot: on the emulator the machine installs for ever, on a real one
#          once, and a wait for the override's end has none.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export TMPDIR="$dir"  # the emulator keeps its state there

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sushy-tools==2.2.0

cat > probe.py <<'END'
from sushy_tools.emulator import main

main.app.config["SUSHY_EMULATOR_FAKE_DRIVER"] = True
main.app.config["SUSHY_EMULATOR_FEATURE_SET"] = "full"
client = main.app.test_client()
system = client.get("/redfish/v1/Systems").json["Members"][0]["@odata.id"]


def show(what):
    boot = client.get(system).json["Boot"]
    print(f"{what}: {boot['BootSourceOverrideTarget']}, {boot['BootSourceOverrideEnabled']}")


show("at first")
for boot in ({"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"},
             {"BootSourceOverrideEnabled": "Disabled"},
             {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}):
    answer = client.patch(system, json={"Boot": boot})
    show(f"{answer.status_code} for {', '.join(boot.values())}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
at first: Hdd, Continuous
204 for Pxe, Once: Pxe, Continuous
400 for Disabled: Pxe, Continuous
204 for None, Disabled: None, Continuous
END
if ! diff -u noted seen; then
    echo 'CHANGED: sushy-emulator keeps boot source overrides in another way' >&2
    exit 1
fi
cat seen
