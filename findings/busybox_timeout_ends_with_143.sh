#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: busybox 1.35.0-4+deb12u1+b1 (busybox-static, Debian 12), against toybox 0.8.9+dfsg-1 and GNU coreutils.
# Guess: timeout exits with 124 when the time is over, as GNU's, and as toybox's does.
# Seen: busybox's exits with 143. It becomes the command, and a child of it sends SIGTERM; so nobody is left to say 124,
#       and a command that ends by itself on SIGTERM has its own status: the run that was too long may be a success.
# Matters: tests in a guest whose commands are busybox's: 124 never comes, and a hang looks as if somebody had ended the
#          test, or like a pass.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download busybox-static=1:1.35.0-4+deb12u1+b1 toybox=0.8.9+dfsg-1
for package in ./*.deb; do dpkg -x "$package" root; done

cat > tidy.sh <<'END'
trap 'exit 0' TERM
while :; do sleep 0.1; done
END
for tool in 'root/bin/busybox timeout' 'root/bin/toybox timeout' timeout; do
    for command in 'sleep 5' 'sh tidy.sh'; do
        status=0
        # shellcheck disable=SC2086
        (exec $tool 1 $command) 2> /dev/null || status=$?
        echo "$tool 1 $command: $status"
    done
done > seen

cat > noted <<'END'
root/bin/busybox timeout 1 sleep 5: 143
root/bin/busybox timeout 1 sh tidy.sh: 0
root/bin/toybox timeout 1 sleep 5: 124
root/bin/toybox timeout 1 sh tidy.sh: 124
timeout 1 sleep 5: 124
timeout 1 sh tidy.sh: 124
END
if ! diff -u noted seen; then
    echo 'CHANGED: timeout ends with another status' >&2
    exit 1
fi
cat seen
