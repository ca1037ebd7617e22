#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tuxlava 0.28.0 (PyPI).
# Guess: the words after "--" are run in the guest as they are: tuxlava quotes them for the shell, and for the YAML of
#        the LAVA job.
# Seen: only for the shell. They are put between YAML's double quotes as they are: \b becomes a backspace, \t a tab,
#       and a command with a quote of either kind makes a job that is no YAML. The status is 0 each time.
# Matters: tests that pass a command with a regular expression or a quoted word to a guest: the job is refused, or
#          the test searches for something else and passes or fails for that.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tuxlava==0.28.0 pyyaml==6.0.4

cat > probe.py <<'END'
import yaml

try:
    with open("job.yaml", encoding="utf-8") as file:
        job = yaml.safe_load(file)
    test = [action["test"] for action in job["actions"] if "test" in action][0]
    print("  runs", ascii(test["definitions"][0]["repository"]["run"]["steps"][0].split("--shell ")[1]))
except yaml.YAMLError as error:
    print("  no YAML:", type(error).__name__)
END
for command in 'grep -c kvm log' 'grep -c \bkvm\b log' "grep -c 'kvm: oops' log" 'grep -c "kvm" log'; do
    status=0
    venv/bin/tuxlava --device qemu-x86_64 --kernel https://example.org/bzImage -- "$command" > job.yaml || status=$?
    echo "$command: exit status $status"
    venv/bin/python probe.py
done > seen

cat > noted <<'END'
grep -c kvm log: exit status 0
  runs "'grep -c kvm log'"
grep -c \bkvm\b log: exit status 0
  runs "'grep -c \x08kvm\x08 log'"
grep -c 'kvm: oops' log: exit status 0
  no YAML: ParserError
grep -c "kvm" log: exit status 0
  no YAML: ParserError
END
if ! diff -u noted seen; then
    echo 'CHANGED: tuxlava quotes commands in another way' >&2
    exit 1
fi
cat seen
