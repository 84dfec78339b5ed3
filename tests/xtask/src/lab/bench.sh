#!/bin/sh
# One benchmark in a guest, whose kernel marks what memory is written to and keeps quotas: on a file system that limits projects, and on one that does not, where
# vzd makes its pool. Images can be had on every machine: by them a guest's figures can be compared with another's.
set -e
name=$1
if [ "$name" = ahead ]; then
    mkdir -p /var/tmp/work
    VZD_BENCH_DIR=/var/tmp/work VZD_BENCH_CGROUP=vzd-bench exec /lab/vzd-bench --only ahead --rounds "$VZD_BENCH_ROUNDS"
fi
at() { # directory, disks, title
    echo "== $3"
    mkdir -p "$1/work"
    VZD_BENCH_DIR=$1/work VZD_BENCH_CGROUP=vzd-bench \
        /lab/vzd-bench --only "$name" --rounds "$VZD_BENCH_ROUNDS" --peers vzd --disks "$2"
}
quotas=/var/tmp/quotas
truncate -s 3G $quotas.img
mke2fs -q -F -t ext4 -O quota,project -E quotatype=usrquota:grpquota:prjquota $quotas.img
mkdir -p $quotas
# What was removed is to be free again: the guest has not much more.
mount -o loop,discard,usrquota,grpquota,prjquota $quotas.img $quotas
at $quotas project "project, on a file system of the host's that limits projects"
umount -l $quotas
rm $quotas.img
at /var/tmp/plain project,image "project, in the pool; image"
