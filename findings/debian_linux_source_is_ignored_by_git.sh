#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Format: the tree in Debian's linux-source-6.12 6.12.117-1~deb12u1, git 2.39 or newer.
# Guess: unpack the tarball, then "git init; git add --all; git commit" gives a repository to develop in: .gitignore is
#        upstream's, which leaves out what a build makes.
# Seen: Debian adds "/*" and "!/debian/" to .gitignore, as its own repository holds debian/ alone. "git add --all" adds
#       nothing and says nothing, "git status" calls the empty repository clean, and "git add Makefile" fails.
# Matters: patches are written against such a tree, and tools ask git which files it has. "git add --force" adds all.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download 'linux-source-6.12=6.12.117-1~deb12u1'
dpkg-deb --fsys-tarfile ./*.deb | tar -xO ./usr/src/linux-source-6.12.tar.xz |
    tar -xJ linux-source-6.12/.gitignore linux-source-6.12/Makefile linux-source-6.12/kernel

cd linux-source-6.12
git init -q
{
    git add --all && echo "added: $(git ls-files | wc -l)"
    git status --short --untracked-files=all | wc -l
    git add Makefile 2> /dev/null || echo "Makefile: refused"
    git check-ignore --verbose Makefile | sed 's/:[0-9]*:/:N:/'
    git add --force Makefile && git ls-files
} > ../seen

cat > ../noted <<'END'
added: 0
0
Makefile: refused
.gitignore:N:/*	Makefile
Makefile
END
if ! diff -u ../noted ../seen; then
    echo "CHANGED: git no longer ignores the tree of Debian's linux-source" >&2
    exit 1
fi
cat ../seen
