#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: b4 0.16.0 (PyPI).
# Guess: "b4 am" fails when a patch of the series is missing from the thread: it says "ERROR: missing [2/3]!".
# Seen: it exits with 0, and writes a mailbox with the others, for "git am" to apply. A thread without any patch is a
#       success, too: "No patches found.", status 0, no mailbox.
# Matters: CI that fetches series by b4 and tests them: where the missing patch is one of a file of its own, the rest
#          applies, and a result is reported for a series that nobody has sent. Look for "Thread incomplete!".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check b4==0.16.0
export HOME="$dir" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2026-11-02T10:00:00Z' GIT_COMMITTER_DATE='2026-11-02T10:00:00Z'
git config --global user.name Author
git config --global user.email author@example.org
git config --global init.defaultBranch main

git init --quiet tree
cd tree
git commit --quiet --allow-empty --message base
for number in 1 2 3; do
    echo "$number" > "file$number"
    git add "file$number"
    git commit --quiet --message "part $number"
done
git format-patch --quiet --thread --to=list@example.org --output-directory ../mails HEAD~3
git checkout --quiet --detach HEAD~3
cat ../mails/000[13]-*.patch > ../incomplete.mbx
printf '%s\n' 'From mail Mon Nov  2 10:00:00 2026' 'From: Author <author@example.org>' 'Subject: a question' \
    'Message-ID: <question@example.org>' 'Date: Mon, 02 Nov 2026 10:00:00 +0000' '' 'No patch here.' > ../none.mbx
for thread in incomplete none; do
    status=0
    ../venv/bin/b4 --offline-mode --no-stdin am --no-cache --use-local-mbox "../$thread.mbx" --outdir "../$thread" \
        > out 2>&1 || status=$?
    echo "$thread: exit status $status, $(find .. -path "../$thread/*.mbx" | wc -l) mailbox"
    grep -E 'ERROR|WARNING|No patches' out | sed 's/^ */  /'
done > ../seen
status=0
git am --quiet ../incomplete/*.mbx || status=$?
echo "git am: exit status $status, files $(git ls-files | xargs)" >> ../seen
cd ..

cat > noted <<'END'
incomplete: exit status 0, 1 mailbox
  ERROR: missing [2/3]!
  WARNING: Thread incomplete!
none: exit status 0, 0 mailbox
  No patches found.
git am: exit status 0, files file1 file3
END
if ! diff -u noted seen; then
    echo 'CHANGED: b4 am treats an incomplete thread in another way' >&2
    exit 1
fi
cat seen
