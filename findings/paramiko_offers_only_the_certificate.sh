#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: paramiko 5.1.0 (PyPI) against dropbear 2022.83-1+deb12u3 (Debian 12).
# Guess: a key file that has user-cert.pub beside it still logs in by the plain key where the server knows no
#        certificates, as it does with ssh.
# Seen: PKey.from_path() takes the certificate along when the file lies there, and then paramiko offers nothing
#       else: AuthenticationException from dropbear, with a key that is authorized. Without the file beside it,
#       or by Ed25519Key.from_private_key_file(), the same key logs in.
# Matters: users of an SSH CA, whose agent renews user-cert.pub in place: one host of the fleet with dropbear
#          refuses them all of a sudden. Load the key by its class there.
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

def login(key):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    try:
        client.connect("127.0.0.1", 23226, "root", pkey=key, look_for_keys=False, allow_agent=False)
        return "logged in"
    except paramiko.AuthenticationException as error:
        return type(error).__name__
    finally:
        client.close()

print("from_path, certificate beside it:", login(paramiko.PKey.from_path("user")))
print("from_path, alone:", login(paramiko.PKey.from_path("alone")))
print("from_private_key_file:", login(paramiko.Ed25519Key.from_private_key_file("user")))
END

mkdir -m 700 home home/.ssh
root/usr/bin/dropbearkey -t ed25519 -f host > /dev/null 2>&1
sed "s#^root:.*#root:x:0:0:root:$dir/home:/bin/sh#" /etc/passwd > passwd
ssh-keygen -q -t ed25519 -N '' -f user
install -m 600 user.pub home/.ssh/authorized_keys
cp user alone
ssh-keygen -q -t ed25519 -N '' -f ca
ssh-keygen -q -s ca -I test -n root user.pub
# In a mount namespace of its own, root's home is the temporary folder.
cat > serve.sh <<'END'
mount --bind passwd /etc/passwd
root/usr/sbin/dropbear -F -E -s -r host -P pid -p 127.0.0.1:23226 2> log &
for _ in $(seq 100); do [ -s pid ] && break; sleep 0.1; done
status=0
timeout 60 venv/bin/python probe.py > seen || status=$?
kill "$!"
exit "$status"
END
unshare --mount bash serve.sh

cat > noted <<'END'
from_path, certificate beside it: AuthenticationException
from_path, alone: logged in
from_private_key_file: logged in
END
if ! diff -u noted seen; then
    echo 'CHANGED: paramiko falls back to the plain key, or dropbear takes certificates' >&2
    exit 1
fi
cat seen
