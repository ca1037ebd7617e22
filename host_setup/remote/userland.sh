#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes on a real machine, which runs the kernel under test, what the probes run in: the root file system of the hosts
# that QEMU makes, read-only below and in RAM above. All of it is below /run: no reboot leaves anything of it.
set -eu
cd /run/sealproof
mkdir lower payload layer root
mount -t erofs -o ro,loop root.erofs lower
mount -t erofs -o ro,loop payload.erofs payload
mount -t tmpfs -o mode=755 sealproof layer
mkdir layer/up layer/work
mount -t overlay -o lowerdir=lower,upperdir=layer/up,workdir=layer/work sealproof root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,gid=5,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mountpoint -q sys/kernel/debug || mount -t debugfs debugfs sys/kernel/debug
mount --bind ../payload payload
# shellcheck source=guest_images/host/furnish
. payload/host/furnish
modules="host_attack host_oracle host_exits"
if grep -q "QEMU TCG" proc/cpuinfo; then
    modules="$modules host_tcg"
fi
for module in $modules; do
    chroot . /bin/busybox insmod "/payload/modules/$module.ko"
done
exec chroot . /payload/host/services
