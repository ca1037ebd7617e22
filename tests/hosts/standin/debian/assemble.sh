#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Called by mmdebstrap as a customize hook, with the finished root file system as the last argument: makes the file
# system of the stand-in for a real machine. Debian as it is, but for a name, a network, keys, and what takes an emulated
# machine's time at each boot and serves nobody there.
# usage: assemble.sh OUT KEYS OFFSET BYTES ROOT       the file system goes to so many bytes of OUT/disk
set -eu
out=$1 keys=$2 offset=$3 bytes=$4 root=$5

echo standin > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 standin\n' > "$root/etc/hosts"
echo '/dev/vda1 / ext4 errors=remount-ro 0 0' > "$root/etc/fstab"
cat > "$root/etc/systemd/network/10-qemu.network" << 'END'
[Match]
Name=en*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
END
ln -s /usr/lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
rm -f "$root"/etc/ssh/ssh_host_*
install -m 600 "$keys/host" "$root/etc/ssh/ssh_host_ed25519_key"
install -m 644 "$keys/host.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
chroot "$root" useradd --create-home --shell /bin/sh lab
echo 'lab ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/lab"
for home in "$root/root" "$root/home/lab"; do
    install -d -m 700 "$home/.ssh"
    install -m 600 "$keys/client.pub" "$home/.ssh/authorized_keys"
done
chroot "$root" chown -R lab:lab /home/lab/.ssh

for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    e2scrub_reap.service systemd-tmpfiles-clean.timer getty.target systemd-logind.service ldconfig.service \
    systemd-journal-flush.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-random-seed.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-pstore.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount systemd-hostnamed.socket systemd-sysext.socket systemd-creds.socket \
    systemd-networkd-persistent-storage.service systemd-ask-password-wall.path \
    systemd-ask-password-console.path modprobe@.service systemd-sysusers.service grub-common.service \
    lvm2-monitor.service lvm2-lvmpolld.socket dm-event.socket blk-availability.service mdmonitor.service \
    mdmonitor-oneshot.timer mdcheck_start.timer mdcheck_continue.timer mdadm-shutdown.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir "$root/etc/systemd/system/systemd-udev-trigger.service.d"
cat > "$root/etc/systemd/system/systemd-udev-trigger.service.d/few.conf" << 'END'
[Service]
ExecStart=
ExecStart=udevadm trigger --type=devices --action=add --subsystem-match=net --subsystem-match=block
END
# What its initramfs must have; all that Debian puts there takes seconds to unpack.
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' >> "$root/etc/initramfs-tools/modules"
for hook in lvm2 mdadm btrfs; do rm "$root/usr/share/initramfs-tools/hooks/$hook"; done
chroot "$root" update-initramfs -u
mkdir -p "$root/etc/default"
printf 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX="console=ttyS0"\n' > "$root/etc/default/grub"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
mv "$root/usr/share/OVMF/OVMF_CODE_4M.fd" "$out/firmware"
mv "$root/usr/share/OVMF/OVMF_VARS_4M.fd" "$out/variables"
rm -rf "$root/usr/share/OVMF" "$root/usr/share/ovmf" "$root/usr/share/qemu"
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' > "$out/packages.list"
# mmdebstrap has /proc and its like mounted in there: a bind mount shows the tree without them.
bare=$(mktemp -d)
mount --bind "$root" "$bare"
mke2fs -q -t ext4 -L standin -E "offset=$offset" -d "$bare" "$out/disk" "$((bytes / 1024))k"
umount "$bare"
rmdir "$bare"
