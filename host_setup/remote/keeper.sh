#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# keeper - what a real machine does by itself for a run: it keeps the lease, boots another kernel once, and comes back
#
# It is all that a run installs. When the run ends, or falls silent for longer than its lease allows, the machine is put
# back as it was: no boot entry, no file of ours, its own kernel. It needs systemd and util-linux, no package beyond.
#
# usage: keeper lease TOKEN HOLDER SECONDS   take the machine; also keeps this script and starts the watch
#                                            3: taken, and by whom; 4: taken by a run whose lease is long over
#        keeper beat TOKEN                   the run lives; 5: the lease is not, or no longer, that run's, or the way back
#                                            has begun
#        keeper boot TOKEN HOW WORDS         boot $HOME/kernel once (kexec, grub, systemd-boot), with these words added
#                                            to the command line; the machine goes down a moment later
#        keeper restore TOKEN|expired        put all back; reboots if another kernel runs
#        keeper watch                        the service: puts all back when the lease is over
#        keeper manifest                     what a run may change, a line each: to compare before and after
#        keeper facts                        what the machine is, a line NAME=VALUE each
#
# SEALPROOF_ROOT: a folder in place of /, for tests. SEALPROOF_TEXT: this script's own text, for "lease".
set -u
R=${SEALPROOF_ROOT:-}
HERE=$R/var/lib/sealproof
UNIT=sealproof-keeper.service
UNIT_FILE=$R/etc/systemd/system/$UNIT
BOOT=$R/boot/sealproof
ID=sealproof
LOOK=${SEALPROOF_LOOK:-3} # seconds between two looks of the watch
export PATH=${SEALPROOF_PATH:+$SEALPROOF_PATH:}/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C
export SYSTEMD_BUS_TIMEOUT=120 # seconds that systemd may take for an answer: 25 by itself, too few on a busy machine
umask 077

fail() { # STATUS WORDS..
    status=$1
    shift
    echo "keeper: $*" >&2
    exit "$status"
}

make_empty() { printf '' > "$1"; } # not ":", which takes the shell along where it cannot write

running() { sha256sum < "$R/sys/kernel/notes"; }

age() { # seconds since the last heartbeat; the clock may have been set back meanwhile
    echo $(($(date +%s) - $(stat -c %Y "$HERE/beat" 2>/dev/null || stat -c %Y "$HERE")))
}

seconds() { cat "$HERE/seconds" 2>/dev/null || echo 60; }

mine() { # TOKEN
    [ "$(cat "$HERE/token" 2>/dev/null)" = "$1" ]
}

still_mine() { # TOKEN
    mine "$1" || fail 5 "the lease is no longer ours"
    [ ! -e "$HERE/restoring" ] || fail 5 "the lease is over: the machine goes back"
}

lease() { # TOKEN HOLDER SECONDS
    [ -d "$R/run/systemd/system" ] || fail 2 "systemd does not run here"
    if ! mkdir "$HERE" 2>/dev/null; then
        [ -d "$HERE" ] || fail 2 "cannot make $HERE: $(mkdir "$HERE" 2>&1)"
        # A run that has only just begun has not written everything; one that died then never will.
        [ "$(age)" -gt $((2 * $(seconds))) ] && fail 4 "left by $(cat "$HERE/holder" 2>/dev/null || echo nobody)"
        fail 3 "taken by $(cat "$HERE/holder" 2>/dev/null || echo a run that just begins), last heard of $(age) s ago"
    fi
    # From here on a failure leaves nothing behind.
    {
        printf '%s\n' "$3" > "$HERE/seconds" && printf '%s\n' "$2" > "$HERE/holder" && printf '%s\n' "$1" > "$HERE/token" \
            && { own_initramfs > "$HERE/initramfs" || :; } && cat "$R/proc/cmdline" > "$HERE/cmdline" \
            && running > "$HERE/old" && make_empty "$HERE/beat" && printf '%s' "$SEALPROOF_TEXT" > "$HERE/keeper" \
            && grubenv_save && cat > "$UNIT_FILE" << END
[Unit]
Description=sealproof: gives this machine back when the run that leased it is over
DefaultDependencies=no
After=local-fs.target
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh $HERE/keeper watch
Restart=always
RestartSec=1
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target rescue.target emergency.target
END
    } && tail -n 1 "$UNIT_FILE" | grep -q WantedBy && tail -n 1 "$HERE/keeper" | grep -q esac \
        && systemctl --quiet daemon-reload && systemctl --quiet enable "$UNIT" && systemctl start "$UNIT" || {
        forget
        fail 2 "the lease cannot be written: is the disk full?"
    }
    sync
    echo leased
}

beat() { # TOKEN
    still_mine "$1"
    cat "$R/proc/uptime" > "$HERE/beat" || fail 2 "cannot write"
}

# --- boot once ---

grub() { # NAME: as this distribution calls it
    if command -v "grub-$1" > /dev/null; then echo "grub-$1"; else echo "grub2-$1"; fi
}

grub_folder() {
    for folder in "$R/boot/grub" "$R/boot/grub2"; do
        [ -e "$folder/grub.cfg" ] && echo "$folder" && return
    done
    return 1
}

once() { # FOLDER: whether its grub.cfg boots an entry of custom.cfg once
    grep -q next_entry "$1/grub.cfg" && grep -q custom.cfg "$1/grub.cfg"
}

grubenv_save() { # the boot loader itself writes to it when it takes an entry that is meant once
    if folder=$(grub_folder) && [ -e "$folder/grubenv" ]; then
        cp -p "$folder/grubenv" "$HERE/grubenv"
    fi
}

esp() {
    for folder in "$(bootctl --print-esp-path 2>/dev/null)" "$R/efi" "$R/boot/efi" "$R/boot"; do
        [ -n "$folder" ] && [ -d "$folder/loader/entries" ] && echo "$folder" && return
    done
    return 1
}

own_initramfs() {
    release=$(uname -r)
    for file in "$R/boot/initrd.img-$release" "$R/boot/initramfs-$release.img" "$R/boot/initrd-$release"; do
        [ -e "$file" ] && echo "$file" && return
    done
    return 1
}

command_line() { # the machine's own kernel's words, and more; what boot loaders add for themselves is left out
    words=
    for word in $(cat "$HERE/cmdline"); do
        case $word in
            BOOT_IMAGE=* | initrd=* | quiet | splash) ;;
            *) words="$words $word" ;;
        esac
    done
    echo "${words# } $1"
}

go_down() { # VERB: a moment later, so that whoever asked hears that it was heard
    sync
    systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=100ms systemctl "$1" \
        || fail 2 "systemd does not take the order to $1"
}

boot() { # TOKEN HOW WORDS
    still_mine "$1"
    initramfs=$(cat "$HERE/initramfs")
    line=$(command_line "$3")
    case $2 in
        kexec)
            "$HERE/kexec_into" --load "$HERE/kernel" "${initramfs:--}" "$line" || fail 2 "the kernel cannot be loaded"
            go_down kexec
            ;;
        grub)
            folder=$(grub_folder) || fail 2 "no grub.cfg below /boot"
            [ -e "$folder/grubenv" ] || fail 2 "no $folder/grubenv: GRUB could not boot an entry once"
            once "$folder" || fail 2 "grub.cfg knows no entry that is meant once, or reads no custom.cfg"
            [ ! -e "$folder/custom.cfg" ] || grep -q "id $ID " "$folder/custom.cfg" \
                || cp -p "$folder/custom.cfg" "$HERE/custom.cfg"
            mkdir -p "$BOOT" && cp "$HERE/kernel" "$BOOT/kernel" || fail 2 "no room in /boot"
            uuid=$("$(grub probe)" --target=fs_uuid "$R/boot") || fail 2 "grub-probe does not find /boot"
            {
                [ ! -e "$HERE/custom.cfg" ] || cat "$HERE/custom.cfg"
                echo "menuentry 'sealproof, once' --id $ID {"
                echo "    search --no-floppy --fs-uuid --set=root $uuid"
                echo "    linux $("$(grub mkrelpath)" "$BOOT/kernel") $line"
                [ -z "$initramfs" ] || echo "    initrd $("$(grub mkrelpath)" "$initramfs")"
                echo "}"
            } > "$folder/custom.cfg" || fail 2 "no room in /boot"
            "$(grub reboot)" "$ID" || fail 2 "grub-reboot failed"
            go_down reboot
            ;;
        systemd-boot)
            esp=$(esp) || fail 2 "no folder loader/entries on an EFI system partition"
            mkdir -p "$esp/sealproof" && cp "$HERE/kernel" "$esp/sealproof/kernel" || fail 2 "no room on $esp"
            [ -z "$initramfs" ] || cp "$initramfs" "$esp/sealproof/initramfs" || fail 2 "no room on $esp"
            {
                echo "title sealproof, once"
                echo "linux /sealproof/kernel"
                [ -z "$initramfs" ] || echo "initrd /sealproof/initramfs"
                echo "options $line"
            } > "$esp/loader/entries/$ID.conf" || fail 2 "no room on $esp"
            bootctl set-oneshot "$ID.conf" || fail 2 "bootctl set-oneshot failed"
            go_down reboot
            ;;
        *) fail 2 "no way to boot is called $2" ;;
    esac
}

# --- the way back ---

unboot() { # takes back all that "boot" prepared, whichever way and however far it came
    [ ! -x "$HERE/kexec_into" ] || [ "$(cat "$R/sys/kernel/kexec_loaded" 2>/dev/null)" != 1 ] \
        || "$HERE/kexec_into" --unload
    if folder=$(grub_folder); then
        if [ -e "$HERE/custom.cfg" ]; then
            cp -p "$HERE/custom.cfg" "$folder/custom.cfg"
        elif grep -qs "id $ID " "$folder/custom.cfg"; then
            rm -f "$folder/custom.cfg"
        fi
        # In its place: GRUB itself writes to these very blocks.
        [ ! -e "$HERE/grubenv" ] || cmp -s "$HERE/grubenv" "$folder/grubenv" \
            || dd if="$HERE/grubenv" of="$folder/grubenv" conv=notrunc status=none
    fi
    if esp=$(esp) && [ -e "$esp/loader/entries/$ID.conf" ]; then
        [ "$(bootctl list --json=short 2>/dev/null | grep -c "\"isOneshot\" *: *true")" = 0 ] || bootctl set-oneshot ""
        rm -rf "$esp/loader/entries/$ID.conf" "$esp/sealproof"
    fi
    rm -rf "$BOOT"
}

forget() { # the last of us: this script, its service, the lease
    systemctl --quiet disable "$UNIT" 2>/dev/null
    rm -f "$UNIT_FILE" "$R"/etc/systemd/system/*.target.wants/"$UNIT"
    for target in rescue emergency; do # of which a machine has no such folder as long as nothing is enabled
        rmdir "$R/etc/systemd/system/$target.target.wants" 2>/dev/null
    done
    rm -rf "$HERE"
    systemctl --quiet daemon-reload
    sync
}

restore() {
    make_empty "$HERE/restoring"
    unboot
    if [ ! -e "$HERE/old" ] || [ "$(running)" = "$(cat "$HERE/old")" ]; then
        forget
        echo restored
        systemctl --quiet --no-block stop "$UNIT" 2>/dev/null # ends us, too, if we are the watch
        return 0
    fi
    sync
    echo rebooting
    systemctl --no-block reboot
}

watch() {
    beat=none silent=0 going=0
    make_empty "$HERE/beat" # a boot counts as a sign of life: until the run can speak again, it has the lease's time
    while sleep "$LOOK"; do
        [ -d "$HERE" ] || exit 0
        now=$(stat -c %y "$HERE/beat" 2>/dev/null)
        if [ "$now" != "$beat" ]; then
            beat=$now silent=0
        else
            silent=$((silent + LOOK)) # not by the clock, which may be set
        fi
        [ -e "$HERE/restoring" ] || [ "$silent" -ge "$(seconds)" ] || continue
        restore
        [ -d "$HERE" ] || exit 0
        # A kernel under test may be too far gone for an orderly way down.
        going=$((going + LOOK))
        [ "$going" -lt 60 ] || echo b > "$R/proc/sysrq-trigger"
    done
}

# --- looking ---

manifest() {
    {
        set -- "$R/boot" "$R/etc/systemd/system" "$R/etc/default" "$R/etc/grub.d" "$R/etc/kernel"
        find "$@" -type f -exec sha256sum {} + | sort
        find "$@" -type l -printf '%p -> %l\n' | sort
        if esp=$(esp); then find "$esp" -type f -exec sha256sum {} + | sort; fi
        find "$R/" "$R/var/lib" "$R/root" "$R/usr/local" -xdev -maxdepth 1 | sort
        echo "kernel $(running)"
    } 2>/dev/null
    systemctl list-unit-files --state=enabled --no-legend --plain || fail 2 "systemd does not tell what is enabled"
}

facts() {
    echo "release=$(uname -r)"
    echo "machine=$(uname -m)"
    echo "root=$([ "$(id -u)" = 0 ] && echo yes || echo no)"
    echo "systemd=$([ -d "$R/run/systemd/system" ] && systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
    echo "kexec=$([ -e "$R/sys/kernel/kexec_loaded" ] && echo yes || echo no)"
    echo "kexec_tools=$(command -v kexec > /dev/null && echo yes || echo no)"
    echo "lockdown=$(sed -n 's/.*\[\(.*\)\].*/\1/p' "$R/sys/kernel/security/lockdown" 2>/dev/null)"
    echo "grub=$(folder=$(grub_folder) && [ -e "$folder/grubenv" ] && once "$folder" && echo yes || echo no)"
    echo "systemd_boot=$(esp > /dev/null && command -v bootctl > /dev/null && echo yes || echo no)"
    echo "initramfs=$(own_initramfs)"
    echo "processor=$(sed -n 's/^model name[^:]*: //p' "$R/proc/cpuinfo" | head -n 1)"
    echo "extension=$(grep -om 1 -wE 'svm|vmx' "$R/proc/cpuinfo" | head -n 1)"
    echo "cpus=$(grep -c ^processor "$R/proc/cpuinfo")"
    echo "memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "$R/proc/meminfo")"
    echo "available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' "$R/proc/meminfo")"
    echo "disk=$(df -Pk "$R/var/lib" | awk 'NR == 2 { print $4 }')"
    echo "boot_disk=$(df -Pk "$R/boot" | awk 'NR == 2 { print $4 }')"
    echo "config=$([ -e "$R/boot/config-$(uname -r)" ] && echo "$R/boot/config-$(uname -r)")"
    echo "holder=$(cat "$HERE/holder" 2>/dev/null)"
    echo "silent=$([ -d "$HERE" ] && age)"
    echo "virtual=$(systemd-detect-virt 2>/dev/null)"
    echo "kernel_line=$(cat "$R/proc/cmdline")"
    echo "notes=$(od -An -v -tx1 "$R/sys/kernel/notes" | tr -d ' \n')"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    lease | beat | boot | watch | manifest | facts) "$verb" "$@" ;;
    restore)
        [ -d "$HERE" ] || fail 5 "there is no lease"
        [ "$1" = expired ] && [ "$(age)" -gt $((2 * $(seconds))) ] || mine "$1" || fail 5 "the lease is not ours"
        restore
        ;;
    *) fail 2 "usage: keeper lease|beat|boot|restore|watch|manifest|facts ..." ;;
esac
