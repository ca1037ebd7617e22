#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Brings a Debian machine to where the project's Python programs can run: Debian packages, then a virtual environment.
# Quiet, and done in a tenth of a second, when nothing is missing. Needs root or sudo only to install packages.
#
#   sh host_setup/bootstrap.sh [VENV LOCK]    set up VENV (.venv) from LOCK (requirements.lock)
#   sh host_setup/bootstrap.sh python         print the Python to use before there is an environment
#   sh host_setup/bootstrap.sh packages LIST  install the packages of another list, and no more
#
# Plain POSIX sh: this is the one part that runs before anything of ours is installed.

set -eu
unset CDPATH # or cd goes to a folder of the user's that is called host_setup
cd "$(dirname "$0")/.."

PYTHON=/usr/bin/python3 # Debian's own: the first python3 in PATH may be a shim, or vanish with its manager
LIST=host_setup/debian-packages.txt
FILES=256 # that one process may have open: as ./sealproof doctor says it
LOCK_WAIT=300 # seconds to wait for another apt, for instance the daily upgrade of a machine that has just booted

say() {
    printf '%s\n' "$*" >&2
}

# die MESSAGE NEXT-STEP
die() {
    say "set-up: $1"
    say "  next: $2"
    exit 2
}

# fail_with_log MESSAGE NEXT-STEP: like die, and shows the end of the log.
fail_with_log() {
    tail -n 12 "$log" >&2
    say "set-up: $1"
    say "  see:  $log"
    say "  next: $2"
    exit 2
}

# Prints the version, and the path that a virtual environment would freeze; fails when it is too old.
python_identity() {
    "$PYTHON" -I -c 'import sys; print(sys.version); sys.exit(sys.version_info < (3, 11))'
}

require_python() {
    [ -x "$PYTHON" ] || die "$PYTHON is not there" "as root: apt-get install python3   (make signoff and make test do it by themselves)"
    identity=$(python_identity) ||
        die "$PYTHON is too old ($identity): 3.11 or newer is needed" "use Debian 12 or 13"
}

wanted_packages() {
    sed 's/[[:space:]]*#.*//; /^$/d' "$LIST"
}

# Those of the list that are not installed, on one line.
missing_packages() {
    # shellcheck disable=SC2046  # one word a package
    set -- $(wanted_packages)
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    missing=''
    for package in "$@"; do
        case "
$installed
" in
        *"
installed $package
"*) ;;
        *) missing="$missing $package" ;;
        esac
    done
    printf '%s' "${missing# }"
}

distribution() {
    # shellcheck disable=SC1091
    (. /etc/os-release 2>/dev/null && printf '%s' "${PRETTY_NAME:-unknown}") || printf 'unknown'
}

is_debian() {
    grep -Eq '^ID="?debian"?$' /etc/os-release 2>/dev/null
}

# as_root COMMAND...: output goes to the log; sudo asks for a password on the terminal itself.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo -- env DEBIAN_FRONTEND=noninteractive "$@"
    fi >>"$log" 2>&1 </dev/null
}

# `apt-get update` gives up at once when another apt holds the lists; DPkg::Lock::Timeout does not cover them. The status
# is apt's, which is never 1, or sudo's own: 1.
update_lists() {
    give_up=$(($(date +%s) + LOCK_WAIT))
    until as_root apt-get -q update; do
        status=$?
        if ! tail -n 5 "$log" | grep -q 'Could not get lock' || [ "$(date +%s)" -ge "$give_up" ]; then
            return "$status"
        fi
        say "set-up: another apt is at work, waiting for it ..."
        sleep 5
    done
}

install_packages() {
    command -v dpkg-query >/dev/null ||
        die "only Debian 12 and 13 are set up automatically, and this is $(distribution)" \
            "use a Debian 13 machine or container; what is needed there: $(wanted_packages | tr '\n' ' ')"
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    is_debian ||
        die "these packages are missing, and only Debian 12 and 13 are set up automatically (this is $(distribution)): $missing" \
            "install them by hand, or run in a Debian 13 container or machine"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "these Debian packages are missing, and you are neither root nor have sudo: $missing" \
            "as root: apt-get update && apt-get install --no-install-recommends $missing"
    fi
    log=$(mktemp "${TMPDIR:-/tmp}/sealproof-apt.XXXXXX")
    say "set-up: installing Debian packages (1 to 5 minutes on a bare machine): $missing"
    # A broken archive of somebody else makes the update fail while Debian's own lists are fine: only the
    # installation decides.
    update_lists || [ $? -ne 1 ] || [ "$(id -u)" -eq 0 ] ||
        fail_with_log "sudo does not let you install these packages: $missing" \
            "as root: apt-get update && apt-get install --no-install-recommends $missing"
    # shellcheck disable=SC2086  # one word a package
    as_root apt-get -q -y -o DPkg::Lock::Timeout="$LOCK_WAIT" -o Dpkg::Use-Pty=0 \
        install --no-install-recommends $missing ||
        fail_with_log "apt-get could not install the missing packages on $(distribution)" \
            "if the network is down, repeat when it is back; if a package is not found, enable Debian's main and security archives in /etc/apt"
    rm -f "$log"
}

# What the environment depends on. The folder counts because an environment does not survive being moved.
venv_stamp() {
    sha256sum "$lock" && printf '%s\n' "$identity" && pwd
}

make_venv() {
    venv=$1 lock=$2
    require_python
    stamp=$(venv_stamp)
    [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] && return 0
    # Through a link `venv --clear` empties what it leads to, another checkout's environment perhaps, and then fails.
    [ ! -L "$venv" ] || die "$venv is a link, and an environment belongs to one checkout" "remove the link: rm $venv"
    case $(pwd -P) in
    *:*) die "the path of the checkout has a colon: $(pwd -P)" "move it; Python makes no environment below a colon" ;;
    esac
    if [ -d "$venv" ]; then place=$venv; else place=$(dirname "$venv"); fi
    [ -w "$place" ] ||
        die "nothing can be written to $(cd "$place" && pwd -P), where the environment of Python's packages belongs" \
            "use a checkout that is yours: git clone, or cp -r, to a writable folder"
    # One set-up at a time in a checkout. The lock goes with the last process that holds it, pip included.
    exec 9<"$lock"
    flock -n 9 || {
        say "set-up: another set-up is at work in this checkout, waiting for it ..."
        flock 9
    }
    [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ] && return 0
    log=$(mktemp "${TMPDIR:-/tmp}/sealproof-pip.XXXXXX")
    say "set-up: making $venv from $lock (about half a minute) ..."
    # The stamp is written last: an environment without it, of a set-up that was killed, is made anew.
    rm -f "$venv/stamp"
    "$PYTHON" -I -m venv --clear "$venv" >"$log" 2>&1 ||
        fail_with_log "cannot make the virtual environment $venv" "see the lines above; a full disk is the usual cause"
    "$venv/bin/python" -I -m pip install --quiet --no-input --disable-pip-version-check --progress-bar off \
        --require-hashes --only-binary :all: -r "$lock" >"$log" 2>&1 ||
        fail_with_log "pip could not install $lock" \
            "if the network is down, repeat when it is back; behind a mirror, name it in pip's own configuration"
    # The checkout itself, where it lies: Avocado finds our plugins by the entry points of an installed project.
    if [ -f pyproject.toml ]; then
        "$venv/bin/python" -I -m pip install --quiet --no-input --disable-pip-version-check --no-index --no-deps \
            --no-build-isolation --editable . >"$log" 2>&1 ||
            fail_with_log "pip could not register the checkout in $venv" "is the checkout writable?"
    fi
    printf '%s\n' "$stamp" >"$venv/stamp.new"
    mv "$venv/stamp.new" "$venv/stamp"
    rm -f "$log"
}

case "${1-}" in
python)
    require_python
    printf '%s\n' "$PYTHON"
    ;;
packages)
    LIST=${2:?which list}
    install_packages
    ;;
*)
    # shellcheck disable=SC3045  # dash knows soft and hard limits, as bash does
    files=$(ulimit -S -n)
    [ "$files" = unlimited ] || [ "$files" -ge "$FILES" ] || {
        # shellcheck disable=SC3045
        ulimit -S -n "$(ulimit -H -n)" # or this shell may be unable even to redirect what it says
        die "$files files may be open at a time, and $FILES are needed" "ulimit -n $FILES"
    }
    # Whatever makes a temporary file below ends where this is wrong, and not in our words.
    [ -z "${TMPDIR-}" ] || { [ -d "$TMPDIR" ] && [ -w "$TMPDIR" ]; } ||
        die "TMPDIR is $TMPDIR, and nothing can be written there" "point it to a writable folder, or unset it"
    [ "$(uname -m)" = x86_64 ] || die "this is $(uname -m); the project is for x86-64 machines" "use an x86-64 machine"
    install_packages
    make_venv "${1:-.venv}" "${2:-requirements.lock}"
    ;;
esac
