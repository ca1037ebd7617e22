#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: parallel-ssh 2.16.0.post1 with ssh2-python 1.2.0.post1 (PyPI), which ask dropbear 2022.83-1+deb12u3 (Debian 12).
# Guess: a command that a signal killed has an exit code that is not 0: 137 as with a shell, -1 as with paramiko, or None,
#        as the server says "exit-signal" and no status (RFC 4254, 6.10).
# Seen: exit_code is 0, for SIGKILL and SIGSEGV alike, and nothing else tells of the signal. Only when a shell waits for
#       the command, and hands its status on, is it 137.
# Matters: harnesses that spread probes over machines with it: killed for want of memory, or crashed, reads as a clean
#          end. Let a shell wait for the command, and hand its status on.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

packages=(dropbear-bin=2022.83-1+deb12u3 libtomcrypt1=1.18.2-6 libtommath1=1.2.0-6+deb12u1)
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done

export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    parallel-ssh==2.16.0.post1 ssh2-python==1.2.0.post1

cat > probe.py <<'END'
from pssh.clients import SSHClient

client = SSHClient("127.0.0.1", user="root", port=23226, pkey="user", allow_agent=False)
for command in ("exit 3", "kill -9 $$", "kill -SEGV $$", "sh -c 'kill -9 $$'; exit $?"):
    output = client.run_command(command)
    client.wait_finished(output)
    print(command, "=>", output.exit_code)
END

mkdir -m 700 home home/.ssh
root/usr/bin/dropbearkey -t ed25519 -f host > /dev/null 2>&1
sed "s#^root:.*#root:x:0:0:root:$dir/home:/bin/sh#" /etc/passwd > passwd
ssh-keygen -q -t ed25519 -N '' -f user
install -m 600 user.pub home/.ssh/authorized_keys
# In a mount namespace of its own, root's home is the temporary folder.
cat > serve.sh <<'END'
mount --bind passwd /etc/passwd
root/usr/sbin/dropbear -F -E -s -r host -P pid -p 127.0.0.1:23226 2> log &
for _ in $(seq 100); do [ -s pid ] && break; sleep 0.1; done
status=0
timeout 100 venv/bin/python probe.py > seen || status=$?
kill "$!"
exit "$status"
END
unshare --mount bash serve.sh

cat > noted <<'END'
exit 3 => 3
kill -9 $$ => 0
kill -SEGV $$ => 0
sh -c 'kill -9 $$'; exit $? => 137
END
if ! diff -u noted seen; then
    echo 'CHANGED: parallel-ssh reports a killed command in another way' >&2
    exit 1
fi
cat seen
