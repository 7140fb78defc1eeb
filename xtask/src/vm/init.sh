#!/bin/busybox sh
# The first program in the machine: makes the files of the machine outside the root, with memory over them to write to.
busybox=/bin/busybox
fail() {
    echo "$1" >&2
    $busybox poweroff -f
}
$busybox mount -t devtmpfs dev /dev
$busybox mount -t proc proc /proc
for module in /modules/*; do
    $busybox insmod "$module" || fail "cannot load $module"
done
$busybox mount -t virtiofs -o ro host /host || fail "cannot mount the files of the machine outside"
$busybox mount -t tmpfs rw /rw
$busybox mkdir /rw/upper /rw/work
$busybox mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work root /root || fail "cannot mount the root"
$busybox mount -t tmpfs run /root/run
$busybox cp /guest /command /root/run/
exec $busybox switch_root /root /bin/sh /run/guest
