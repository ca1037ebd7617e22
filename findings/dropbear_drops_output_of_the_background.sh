#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dropbear 2022.83-1+deb12u3 (Debian 12), asked by paramiko 5.1.0.
# Guess: as with OpenSSH, a command's channel stays open until all processes that hold its stdout have closed it:
#        what a background process of the command prints still arrives.
# Seen: dropbear closes the channel when the command's own process exits. What its children print afterwards is
#       lost, and the client sees a normal end with status 0.
# Matters: a harness that starts a probe in the background and reads to the end of the channel: complete on hosts
#          with OpenSSH, cut off on small images with dropbear. "wait" in the command keeps it open.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

packages=(dropbear-bin=2022.83-1+deb12u3 libtomcrypt1=1.18.2-6 libtommath1=1.2.0-6+deb12u1)
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done

export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check paramiko==5.1.0 cryptography==50.0.2

cat > probe.py <<'END'
import paramiko

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect("127.0.0.1", 23225, "root", key_filename="user", look_for_keys=False, allow_agent=False)
for command in ("(sleep 1; echo late) & echo now", "(sleep 1; echo late) & echo now; wait"):
    _, output, _ = client.exec_command(command, timeout=20)
    print(command, "=>", output.read().split(), output.channel.recv_exit_status())
client.close()
END

mkdir -m 700 home home/.ssh
root/usr/bin/dropbearkey -t ed25519 -f host > /dev/null 2>&1
sed "s#^root:.*#root:x:0:0:root:$dir/home:/bin/sh#" /etc/passwd > passwd
ssh-keygen -q -t ed25519 -N '' -f user
install -m 600 user.pub home/.ssh/authorized_keys
# In a mount namespace of its own, root's home is the temporary folder.
cat > serve.sh <<'END'
mount --bind passwd /etc/passwd
root/usr/sbin/dropbear -F -E -s -r host -P pid -p 127.0.0.1:23225 2> log &
for _ in $(seq 100); do [ -s pid ] && break; sleep 0.1; done
status=0
timeout 60 venv/bin/python probe.py > seen || status=$?
kill "$!"
exit "$status"
END
unshare --mount bash serve.sh

cat > noted <<'END'
(sleep 1; echo late) & echo now => [b'now'] 0
(sleep 1; echo late) & echo now; wait => [b'now', b'late'] 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: dropbear waits for the output of background processes' >&2
    exit 1
fi
cat seen
