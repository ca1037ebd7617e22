#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: prove, TAP::Harness 3.44 (perl-modules-5.36 5.36.0-7+deb12u4, Debian 12).
# Guess: a stream that begins with "TAP version 14" is read, as version 14 is made to be read by what reads 13.
# Seen: every test in it is ok, and the result is FAIL with status 1: "TAP specified version 14 but we don't know about
#       versions later than 13". The same stream with 13 passes.
# Matters: whoever feeds a TAP 14 producer to Debian 12's prove.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download perl-modules-5.36=5.36.0-7+deb12u4
dpkg -x ./perl-modules-5.36_*.deb root

for version in 13 14; do
    printf 'TAP version %s\n1..1\nok 1 - it works\n' "$version" > "$version.tap"
    status=0
    PERL5LIB=root/usr/share/perl/5.36 perl -MApp::Prove -e '$app = App::Prove->new; $app->process_args(@ARGV); exit($app->run ? 0 : 1)' \
        -- --norc -e cat "$version.tap" > out 2>&1 || status=$?
    echo "$version: $(grep '^Result:' out), exit status $status"
done > seen

cat > noted <<'END'
13: Result: PASS, exit status 0
14: Result: FAIL, exit status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: prove takes TAP 14 in another way' >&2
    exit 1
fi
cat seen
