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
#        keeper go HOW                       what "boot" has happen a moment later: the machine goes down
#        keeper watch                        the service: puts all back when the lease is over
#        keeper manifest                     what a run may change, a line each: to compare before and after
#        keeper facts                        what the machine is, a line NAME=VALUE each; against_HOW says why it cannot
#                                            boot our kernel once in that way, "WHY -> WHAT TO DO", empty if it can
#
# SEALPROOF_ROOT: a folder in place of /, for tests. SEALPROOF_TEXT: this script's own text, for "lease".
set -u
R=${SEALPROOF_ROOT:-}
HERE=$R/var/lib/sealproof
UNIT=sealproof-keeper.service
UNIT_FILE=$R/etc/systemd/system/$UNIT
BOOT=$R/boot/sealproof
ID=sealproof
VARIABLES=$R/sys/firmware/efi/efivars
LOADER_GUID=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f # of a boot loader's variables
LOOK=${SEALPROOF_LOOK:-3} # seconds between two looks of the watch
LONGEST=1980              # characters of a command line; x86 takes 2047 (COMMAND_LINE_SIZE), and boot loaders add theirs
export PATH=${SEALPROOF_PATH:+$SEALPROOF_PATH:}/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C
export SYSTEMD_BUS_TIMEOUT=120 # seconds that systemd may take for an answer: 25 by itself, too few on a busy machine
umask 077

say() { printf '%s\n' "$*"; } # not echo, to which a backslash says something

fail() { # STATUS WORDS..
    status=$1
    shift
    say "keeper: $*" >&2
    exit "$status"
}

make_empty() { printf '' > "$1"; } # not ":", which takes the shell along where it cannot write

running() { sha256sum < "$R/sys/kernel/notes"; }

now() { # which boot it is, and its seconds: no clock that somebody may set
    read -r up _ < "$R/proc/uptime" && echo "$(cat "$R/proc/sys/kernel/random/boot_id" 2>/dev/null || echo this) ${up%%.*}"
}

age() { # seconds since the last heartbeat
    if [ -s "$HERE/beat" ]; then
        # shellcheck disable=SC2046  # two words each
        set -- $(cat "$HERE/beat") $(now)
        [ "$1" = "$3" ] && echo $(($4 - $2)) || echo "$4" # a run of an earlier boot was silent in all of this one
    else # a lease that is being taken, or whose run died then
        echo $(($(date +%s) - $(stat -c %Y "$HERE/beat" 2>/dev/null || stat -c %Y "$HERE")))
    fi
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
    } && tail -n 1 "$UNIT_FILE" | grep -q WantedBy && tail -n 1 "$HERE/keeper" | grep -q "esac" \
        && systemctl --quiet daemon-reload && systemctl --quiet enable "$UNIT" && systemctl start "$UNIT" || {
        forget
        fail 2 "the lease cannot be written: is the disk full?"
    }
    sync
    echo leased
}

beat() { # TOKEN
    still_mine "$1"
    now > "$HERE/beat" || fail 2 "cannot write"
}

# --- boot once ---

grub() { # NAME: as this distribution calls it
    case $(grub_folder) in
        */grub2) set -- "grub2-$1" "grub-$1" ;;
        *) set -- "grub-$1" "grub2-$1" ;;
    esac
    if command -v "$1" > /dev/null || ! command -v "$2" > /dev/null; then echo "$1"; else echo "$2"; fi
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

own_initramfs() { # as Debian, Fedora, SUSE, Mageia, Gentoo, Arch, ostree, and kernel-install name it
    release=$(uname -r)
    base=$(cat "$R/usr/lib/modules/$release/pkgbase" 2>/dev/null || echo "$release")
    for file in "$R/boot/initrd.img-$release" "$R/boot/initramfs-$release.img" "$R/boot/initrd-$release" \
        "$R/boot/initrd-$release.img" "$R/boot/initramfs-genkernel-$(uname -m)-$release" "$R/boot/initramfs-$base.img" \
        "$R/boot/ostree"/*/"initramfs-$release.img" "$R/boot"/*/"$release/initrd" "$R/efi"/*/"$release/initrd" \
        "$R/boot/efi"/*/"$release/initrd"; do
        [ -e "$file" ] && echo "$file" && return
    done
    return 1
}

# Once there is a lease, the machine may run another kernel than its own: what it had is kept.
initramfs() { cat "$HERE/initramfs" 2>/dev/null || own_initramfs; }
own_words() { cat "$HERE/cmdline" 2>/dev/null || cat "$R/proc/cmdline"; }

# The machine's own kernel's words, and more. What boot loaders add for themselves is left out, and what follows "--",
# which is for init, stays behind. Words are what the kernel takes for words (lib/cmdline.c next_arg()). GRUB's script
# takes them in single quotes. GRUB hands a word on with a backslash before each backslash and quote, and in double quotes
# if there is a blank in it (its lib/cmdline.c): so those are taken off first. A word that it cannot hand on as it is ends
# this with status 3 and that word.
command_line() { # HOW WORDS
    printf '%s\n' "$(own_words)" "$2" | awk -v how="$1" '
        function plain(word,    at, c, out) {
            for (at = 1; at <= length(word); at++) {
                c = substr(word, at, 1)
                if (c == "\\" && escaped && at < length(word) && index("\\\"\047", substr(word, at + 1, 1)))
                    c = substr(word, ++at, 1)
                else if (c == "\"")
                    continue
                else if (c == "\\" || c == "\047")
                    odd = odd == "" ? word : odd
                out = out c
            }
            return out
        }
        function shown(word) {
            if (how != "grub")
                return word
            word = plain(word)
            if (word ~ "^[A-Za-z0-9_./:,=@%+-]+$")
                return word
            gsub(/\047/, "\047\\\047\047", word)
            return "\047" word "\047"
        }
        function take(word) {
            if (word == "" || word ~ /^"?(BOOT_IMAGE|initrd)=/ || word == "quiet" || word == "splash")
                return
            if (word == "--" && !init)
                init = 1
            if (init && NR == 1)
                rest = rest " " shown(word)
            else
                line = line " " shown(word)
        }
        NR == 1 { escaped = $0 ~ /(^| )"?BOOT_IMAGE=/ }
        NR == 2 { escaped = 0 }
        {
            word = ""
            quoted = 0
            for (at = 1; at <= length($0); at++) {
                c = substr($0, at, 1)
                if (c == "\"")
                    quoted = !quoted
                if (!quoted && (c == " " || c == "\t")) {
                    take(word)
                    word = ""
                } else
                    word = word c
            }
            take(word)
        }
        END {
            if (odd != "") {
                print odd
                exit 3
            }
            print substr(line rest, 2)
        }
    '
}

# --- why not ---

efi_variable() { # NAME: its value; four bytes before it are its attributes. tail alone would seek, which efivarfs refuses
    cat "$VARIABLES/$1" 2>/dev/null | tail -c +5
}

loader_says() { # NAME: a boot loader's variable, of what can be printed; empty if there is none
    efi_variable "$1-$LOADER_GUID" | tr -cd '[:print:]'
}

loader() { # what booted the machine, by its own word (systemd.io/BOOT_LOADER_INTERFACE); empty if it gave none
    loader_says LoaderInfo
}

flag() { # NAME: whether an EFI variable is 1
    [ "$(efi_variable "$1" | od -An -tu1 | tr -d ' ')" = 1 ]
}

secure_boot() { # MokSBStateRT: shim was told not to look
    flag SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c && ! flag MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23
}

own_root() {
    own_words | tr ' ' '\n' | sed -n 's/^root=//p' | tail -n 1
}

needs_initramfs() { # what the kernel finds by itself: block/early-lookup.c
    case $(own_root) in
        PARTUUID=* | PARTLABEL=* | /dev/[shv]d[a-z]* | /dev/xvd* | /dev/nvme* | /dev/mmcblk* | [0-9]*:[0-9]*) return 1 ;;
    esac
}

mounted() { # FOLDER: the file system that it is on, ",TYPE,OPTION,OPTION..,"
    awk -v at="$1/" 'index(at, $2 == "/" ? "/" : $2 "/") == 1 && length($2) >= best { best = length($2); is = $3 "," $4 }
        END { print "," is "," }' "$R/proc/mounts" 2>/dev/null
}

in_memory() { # FOLDER: whether what is written there is gone with the next boot, or nobody can tell
    set -- "$(mounted "$1")" "${2:-}"
    case $1 in
        ,tmpfs,* | ,ramfs,*) return 0 ;;
        ,overlay,*,upperdir=*) # a live system's, or one that forgets on purpose
            [ "$1" = "$2" ] && return 0 # what it writes to was mounted before it, and is not to be seen
            upper=${1##*,upperdir=}
            in_memory "${upper%%,*}" "$1"
            ;;
        *) return 1 ;;
    esac
}

menu_waits() { # whether the boot loader waits for somebody, at each boot: the machine would not come back by itself
    case $(loader) in
        *systemd-boot*) folder=$(esp) && grep -qsE '^[[:space:]]*timeout[[:space:]]+menu-force' "$folder/loader/loader.conf" ;;
        *) # what follows timeout_style is what counts: GRUB_TIMEOUT
            folder=$(grub_folder) && grep -A1 '^ *set timeout_style=' "$folder/grub.cfg" | grep -q '^ *set timeout=-1$'
            ;;
    esac
}

against_all() { # whichever way it boots
    [ -n "$(initramfs)" ] || ! needs_initramfs \
        || echo "no initramfs of Linux $(uname -r) is found, and root=$(own_root) needs one -> put it into /boot"
    for folder in /var/lib /etc/systemd/system; do
        ! in_memory "$folder" || echo "$folder is in memory: what brings the machine back would not outlive a boot" \
            "-> use a machine that is installed on a disk"
        [ ! -d "$R$folder" ] || [ -w "$R$folder" ] || echo "$folder cannot be written -> mount it read-write"
    done
    ! menu_waits || echo "its boot loader waits for somebody at its menu, at each boot" \
        "-> GRUB_TIMEOUT=5 in /etc/default/grub and $(grub mkconfig), or a timeout in loader.conf"
}

against_kexec() {
    [ -e "$R/sys/kernel/kexec_loaded" ] || echo 'its kernel does not support kexec -> boot = "grub" or "systemd-boot"'
    [ "$(cat "$R/proc/sys/kernel/kexec_load_disabled" 2>/dev/null || echo 0)" = 0 ] \
        || echo 'kexec is switched off until it boots again -> take kernel.kexec_load_disabled out of its sysctl.d'
    case $(mounted /var/lib) in
        *,noexec,*) echo 'no program may run in /var/lib (noexec), and one loads the kernel -> boot = "grub"' ;;
    esac
}

against_grub() {
    case $(loader) in *systemd-boot*) echo 'systemd-boot booted it, not GRUB -> boot = "systemd-boot"' && return ;; esac
    folder=$(grub_folder) || { echo 'no grub.cfg below /boot -> boot = "kexec" or "systemd-boot"' && return; }
    [ -e "$folder/grubenv" ] || {
        echo "no $folder/grubenv: GRUB could not boot an entry once -> $(grub editenv) $folder/grubenv create"
        return
    }
    once "$folder" \
        || echo "grub.cfg knows no entry that is meant once, or reads no custom.cfg -> make it anew: $(grub mkconfig)"
    for tool in probe mkrelpath reboot; do
        command -v "$(grub $tool)" > /dev/null || echo "no $(grub $tool) -> install all of GRUB's tools"
    done
    env=$(readlink -f "$folder/grubenv")
    [ -w "$env" ] || echo "$env cannot be written -> mount it read-write"
    head -n 1 "$env" | grep -qx '# GRUB Environment Block' \
        || echo "$env is no environment block -> $(grub editenv) $env create"
    # GRUB itself takes the entry back before it boots it, by writing over the file's own blocks: save_env, in its
    # commands/loadenv.c. Where it cannot, a kernel that dies would be booted again and again. All of its file systems
    # but ext2 to ext4, XFS and FAT: some hand it no blocks, on others it was never tried.
    file_system=$("$(grub probe)" --target=fs "$env" 2>/dev/null) \
        || echo "$(grub probe) does not tell what $env is on -> boot = \"kexec\""
    layers=$("$(grub probe)" --target=abstraction "$env" 2>/dev/null | paste -sd ' ') # a line each
    case $layers in *lvm* | *raid* | *diskfilter* | *ldm* | *crypto* | *luks* | *geli*) file_system=$layers ;; esac
    case $file_system in
        affs | afs | bfs | btrfs | cbfs | cpio* | erofs | f2fs | hfs* | iso9660 | jfs | minix* | newc | nilfs2 | ntfs | odc \
            | procfs | reiserfs | romfs | sfs | squash4 | tarfs | udf | ufs* | zfs | *lvm* | *raid* | *diskfilter* | *ldm* \
            | *crypto* | *luks* | *geli*)
            echo "$folder is on $file_system, where GRUB cannot take back an entry that is meant once" \
                "-> boot = \"kexec\", or a /boot of its own with ext4"
            ;;
    esac
    odd=$(command_line grub "") || say "GRUB cannot hand on a word of its command line as it is: $odd -> boot = \"kexec\""
}

against_systemd_boot() {
    command -v bootctl > /dev/null || { echo 'no bootctl -> boot = "kexec" or "grub"' && return; }
    bootctl is-installed > /dev/null 2>&1 \
        || { echo 'systemd-boot is not installed -> boot = "grub" or "kexec"' && return; }
    esp > /dev/null || { echo 'no folder loader/entries on an EFI system partition -> boot = "kexec"' && return; }
    [ -d "$VARIABLES" ] || return
    case $(loader) in
        *systemd-boot*) ;;
        *) echo "$(loader | grep . || echo 'another boot loader') booted it, not systemd-boot -> boot = \"grub\" or \"kexec\"" ;;
    esac
    [ -w "$VARIABLES" ] || echo "$VARIABLES cannot be written -> mount it read-write"
}

against() { # HOW: the first thing that stands against it
    { against_all && "against_$(echo "$1" | tr - _)"; } | head -n 1
}

# --- boot once, continued ---

armed() { # whether the entry is the one that comes next
    grep -aqx "next_entry=$ID" "$(grub_folder)/grubenv"
}

go_down() { # HOW: a moment later, so that whoever asked hears that it was heard
    sync
    case $1 in
        kexec) set -- systemctl kexec ;;
        *) set -- /bin/sh "$HERE/keeper" go "$1" ;;
    esac
    systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=100ms "$@" \
        || fail 2 "systemd does not take the order to boot"
}

arm() { # HOW: again, if something else took the entry back: grub-set-default does, and a package's hook may call it
    case $1 in
        grub) armed || "$(grub reboot)" "$ID" ;;
        systemd-boot) [ -e "$VARIABLES/LoaderEntryOneShot-$LOADER_GUID" ] || bootctl set-oneshot "$ID.conf" ;;
    esac
}

go() { # HOW
    arm "$1"
    sync
    systemctl reboot
}

boot() { # TOKEN HOW WORDS
    still_mine "$1"
    case $2 in kexec | grub | systemd-boot) ;; *) fail 2 "no way to boot is called $2" ;; esac
    why=$(against "$2")
    [ -z "$why" ] || fail 2 "$why"
    initramfs=$(initramfs)
    line=$(command_line "$2" "$3") || fail 2 "GRUB cannot hand on a word of its command line as it is: $line"
    [ ${#line} -le $LONGEST ] || fail 2 "the command line has ${#line} characters, and a kernel takes $LONGEST"
    case $2 in
        kexec)
            "$HERE/kexec_into" --load "$HERE/kernel" "${initramfs:--}" "$line" || fail 2 "the kernel cannot be loaded"
            ;;
        grub)
            folder=$(grub_folder)
            [ ! -e "$folder/custom.cfg" ] || grep -q "id $ID " "$folder/custom.cfg" \
                || cp -p "$folder/custom.cfg" "$HERE/custom.cfg"
            mkdir -p "$BOOT" && cp "$HERE/kernel" "$BOOT/kernel" || fail 2 "no room in /boot"
            uuid=$("$(grub probe)" --target=fs_uuid "$R/boot") || fail 2 "grub-probe does not find /boot"
            {
                [ ! -e "$HERE/custom.cfg" ] || { cat "$HERE/custom.cfg" && echo; } # its last line may have no end
                # Unrestricted: where GRUB has superusers, it else asks for a password.
                echo "menuentry 'sealproof, once' --unrestricted --id $ID {"
                echo "    search --no-floppy --fs-uuid --set=root $uuid"
                say "    linux $("$(grub mkrelpath)" "$BOOT/kernel") $line"
                [ -z "$initramfs" ] || echo "    initrd $("$(grub mkrelpath)" "$initramfs")"
                echo "}"
            } > "$folder/custom.cfg" || fail 2 "no room in /boot"
            "$(grub reboot)" "$ID" && armed || fail 2 "GRUB keeps no entry that is meant once: grub-reboot failed"
            ;;
        systemd-boot)
            esp=$(esp)
            mkdir -p "$esp/sealproof" && cp "$HERE/kernel" "$esp/sealproof/kernel" || fail 2 "no room on $esp"
            [ -z "$initramfs" ] || cp "$initramfs" "$esp/sealproof/initramfs" || fail 2 "no room on $esp"
            {
                echo "title sealproof, once"
                echo "linux /sealproof/kernel"
                [ -z "$initramfs" ] || echo "initrd /sealproof/initramfs"
                say "options $line"
            } > "$esp/loader/entries/$ID.conf" || fail 2 "no room on $esp"
            bootctl set-oneshot "$ID.conf" || fail 2 "bootctl set-oneshot failed"
            ;;
    esac
    say "$2" > "$HERE/going" || fail 2 "cannot write"
    go_down "$2"
}

# --- the way back ---

unboot() { # takes back all that "boot" prepared, whichever way and however far it came
    rm -f "$HERE/going"
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
        [ "$(loader_says LoaderEntryOneShot)" != "$ID.conf" ] || bootctl set-oneshot ""
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
    rm -f "$HERE/going" # this boot is what it was for
    now > "$HERE/beat" # a boot counts as a sign of life: until the run can speak again, it has the lease's time
    while sleep "$LOOK"; do
        [ -d "$HERE" ] || exit 0
        [ ! -e "$HERE/going" ] || arm "$(cat "$HERE/going")" # services that end may do something, too
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

# What each boot of the machine's own changes is no part of it: the seed that systemd-boot renews, and what GRUB and a
# service of the distribution's note of a boot in turn (recordfail of Ubuntu's, boot_success of Fedora's).
BOOTS='recordfail|initrdfail|initrdless_boot_fallback_triggered|boot_success|boot_indeterminate'

manifest() {
    {
        set -- "$R/boot" "$R/etc/systemd/system" "$R/etc/default" "$R/etc/grub.d" "$R/etc/kernel"
        if esp=$(esp); then set -- "$@" "$esp"; fi
        find "$@" -type f ! -path '*/loader/random-seed' ! -name grubenv -exec sha256sum {} + | sort -u
        find "$@" -name grubenv -print -exec grep -aHE '^[^#=]+=' {} \; | grep -avE ":($BOOTS)=" | sort -u
        find "$@" -type l -printf '%p -> %l\n' | sort -u
        find "$R/" "$R/var/lib" "$R/root" "$R/usr/local" -xdev -maxdepth 1 | sort
        echo "kernel $(running)"
    } 2>/dev/null
    systemctl list-unit-files --state=enabled --no-legend --plain || fail 2 "systemd does not tell what is enabled"
}

root_is() { # the root file system and what it is on, "ext4 part disk"; empty if that is no device
    on=$(lsblk -nsro TYPE "$(findmnt -nvo SOURCE "$R/" 2>/dev/null)" 2>/dev/null) && [ -n "$on" ] \
        && say "$(mounted / | cut -d , -f 2)" "$on" | tr '\n' ' '
}

watchdog() { # a hardware watchdog that runs on across kexec: nobody can stop it, or systemd is told not to
    kept=$(systemctl show --property=KExecWatchdogUSec --value 2>/dev/null)
    for folder in "$R/sys/class/watchdog"/*; do
        [ "$(cat "$folder/state" 2>/dev/null)" = active ] || continue
        dog=$(cat "$folder/identity")
        [ "$dog" != "Software Watchdog" ] || continue # a timer of the kernel's, which ends with it
        [ "$(cat "$folder/nowayout")" = 1 ] || case $kept in '' | 0 | infinity) continue ;; esac
        say "$dog, $(cat "$folder/timeout") s" && return
    done
}

facts() {
    echo "release=$(uname -r)"
    echo "machine=$(uname -m)"
    echo "root=$([ "$(id -u)" = 0 ] && echo yes || echo no)"
    echo "systemd=$([ -d "$R/run/systemd/system" ] && systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
    echo "kexec=$([ -e "$R/sys/kernel/kexec_loaded" ] && echo yes || echo no)"
    echo "kexec_tools=$(command -v kexec > /dev/null && echo yes || echo no)"
    echo "lockdown=$(sed -n 's/.*\[\(.*\)\].*/\1/p' "$R/sys/kernel/security/lockdown" 2>/dev/null)"
    echo "secure_boot=$(secure_boot && echo yes || echo no)"
    for how in kexec grub systemd-boot; do
        why=$(against "$how")
        say "against_$how=$why"
        [ $how = kexec ] || echo "$(echo $how | tr - _)=$([ -z "$why" ] && echo yes || echo no)"
    done
    echo "initramfs=$(own_initramfs)"
    echo "root_is=$(root_is)"
    echo "selinux=$([ -e "$R/sys/fs/selinux/enforce" ] && echo yes || echo no)"
    echo "processor=$(sed -n 's/^model name[^:]*: //p' "$R/proc/cpuinfo" | head -n 1)"
    echo "extension=$(grep -om 1 -wE 'svm|vmx' "$R/proc/cpuinfo" | head -n 1)"
    echo "cpus=$(grep -c ^processor "$R/proc/cpuinfo")"
    echo "memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "$R/proc/meminfo")"
    echo "available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' "$R/proc/meminfo")"
    echo "disk=$(df -Pk "$R/var/lib" | awk 'NR == 2 { print $4 }')"
    echo "boot_disk=$(df -Pk "$R/boot" | awk 'NR == 2 { print $4 }')"
    echo "esp_disk=$(esp=$(esp) && df -Pk "$esp" | awk 'NR == 2 { print $4 }')"
    echo "initramfs_size=$(file=$(own_initramfs) && du -kL "$file" | cut -f 1)"
    echo "config=$([ -e "$R/boot/config-$(uname -r)" ] && echo "$R/boot/config-$(uname -r)")"
    echo "holder=$(cat "$HERE/holder" 2>/dev/null)"
    echo "silent=$([ -d "$HERE" ] && age)"
    echo "watchdog=$(watchdog)"
    echo "virtual=$(systemd-detect-virt 2>/dev/null)"
    say "kernel_line=$(cat "$R/proc/cmdline")"
    echo "notes=$(od -An -v -tx1 "$R/sys/kernel/notes" | tr -d ' \n')"
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    lease | beat | boot | go | watch | manifest | facts) "$verb" "$@" ;;
    restore)
        [ -d "$HERE" ] || fail 5 "there is no lease"
        [ "$1" = expired ] && [ "$(age)" -gt $((2 * $(seconds))) ] || mine "$1" || fail 5 "the lease is not ours"
        restore
        ;;
    *) fail 2 "usage: keeper lease|beat|boot|go|restore|watch|manifest|facts ..." ;;
esac
