#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Called by mmdebstrap as a customize hook, with the finished root file system as the last argument: makes the host's
# image and the part of the guest's initramfs that comes from Debian. A hook runs as root of the file system in every mode
# of mmdebstrap, so no root is needed outside.
set -eu
recipe=$1 out=$2 root=$3

# Debian's own kernel, for a guest whose kernel knows nothing of ours: it, and the modules of its disk and network, by
# which a guest's initramfs grows. Not installed as a package: that would make an initramfs of its own.
kernel=$(mktemp -d)
(
    cd "$kernel"
    export APT_CONFIG="${MMDEBSTRAP_APT_CONFIG:?}"
    apt-get -q download "$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')"
    dpkg-deb -x ./*.deb tree
    mkdir -p "$root/usr/lib/sealproof" initramfs/modules
    cp tree/boot/vmlinuz-* "$root/usr/lib/sealproof/vmlinuz"
    number=1
    for module in net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/block/virtio_blk; do
        xz -dc tree/usr/lib/modules/*/kernel/$module.ko.xz > initramfs/modules/$number.ko
        number=$((number + 1))
    done
    cd initramfs
    find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 > "$root/usr/lib/sealproof/modules.cpio"
)
rm -rf "$kernel"

# The host: mount points that a read-only root needs, and no key and no server start of a package's making.
install -m 755 "$recipe/start" "$root/sbin/sealproof-start"
mkdir -p "$root/payload" "$root/overlay" "$root/run/sshd"
rm -f "$root"/etc/ssh/ssh_host_*
# Never used by a probe, and half of the image: firmware of other machines, package lists, caches.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/usr/share/qemu/edk2-* "$root"/usr/share/qemu-efi* \
    "$root"/usr/share/seabios/vgabios-* "$root"/usr/share/OVMF "$root"/usr/share/info "$root"/usr/share/icons \
    "$root"/usr/share/qemu/openbios-* "$root"/usr/share/qemu/hppa-* "$root"/usr/share/qemu/skiboot.lid \
    "$root"/usr/share/qemu/u-boot* "$root"/usr/share/qemu/slof.bin "$root"/usr/share/qemu/opensbi-*
# mmdebstrap has /proc and its like mounted: the mount points go in, what is mounted there does not.
mkfs.erofs --quiet -x-1 -zlz4 -T0 -U 00000000-0000-0000-0000-000000000000 \
    --exclude-regex='^/?(proc|sys|dev|run|tmp)/.+' "$out/root.erofs" "$root"

# The guest: busybox, dropbear and the libraries that it needs.
guest=$(mktemp -d)
trap 'rm -rf "$guest"' EXIT
mkdir -p "$guest/bin" "$guest/sbin" "$guest/lib64" "$guest/dev" "$guest/proc" "$guest/sys" "$guest/tmp" "$guest/run" \
    "$guest/root/.ssh" "$guest/etc/dropbear" "$guest/sealproof"
cp "$root/bin/busybox" "$guest/bin/busybox"
for applet in $(chroot "$root" busybox --list); do
    [ -e "$guest/bin/$applet" ] || ln -s busybox "$guest/bin/$applet"
done
cp "$root/usr/sbin/dropbear" "$guest/sbin/dropbear"
chroot "$root" ldd /usr/sbin/dropbear | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$root/$library" "$guest$library"
done
printf 'root:x:0:0:root:/root:/sealproof/shell\n' > "$guest/etc/passwd"
printf 'root:x:0:\n' > "$guest/etc/group"
printf '/sealproof/shell\n' > "$guest/etc/shells"
(cd "$guest" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) > "$out/guest-base.cpio"

# The same QEMU for the machine that this runs on: what it is linked with and boots from, and a way to start it. It
# brings the loader too, as this machine's may be older than these libraries; under that name, which ps and top show.
qemu="$out/qemu"
mkdir -p "$qemu/lib" "$qemu/firmware"
cp "$root/usr/bin/qemu-system-x86_64" "$qemu/program"
cp -L "$root/lib64/ld-linux-x86-64.so.2" "$qemu/qemu-system"
chroot "$root" ldd /usr/bin/qemu-system-x86_64 | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | while read -r library; do
    cp -L "$root/$library" "$qemu/lib/"
done
(cd "$root/usr/share" && cp seabios/bios-256k.bin qemu/kvmvapic.bin qemu/linuxboot.bin qemu/linuxboot_dma.bin \
    qemu/multiboot.bin qemu/multiboot_dma.bin qemu/pvh.bin "$qemu/firmware/")
cp "$recipe/qemu" "$qemu/qemu-system-x86_64"
chmod 755 "$qemu/qemu-system-x86_64"

# What a report says of the machine under test.
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' > "$out/packages.list"
