#!/bin/sh
# One benchmark in a guest, whose kernel keeps quotas: on a file system that limits projects, and on one that does not, where
# vzd makes its pool.
set -e
name=$1
at() {
    echo "== $2"
    mkdir -p "$1/work"
    VZD_BENCH_DIR=$1/work VZD_BENCH_CGROUP=vzd-bench \
        /lab/vzd-bench --only "$name" --rounds "$VZD_BENCH_ROUNDS" --peers vzd --disks project
}
quotas=/var/tmp/quotas
truncate -s 3G $quotas.img
mke2fs -q -F -t ext4 -O quota,project -E quotatype=usrquota:grpquota:prjquota $quotas.img
mkdir -p $quotas
# What was removed is to be free again: the guest has not much more.
mount -o loop,discard,usrquota,grpquota,prjquota $quotas.img $quotas
at $quotas "project, on a file system of the host's that limits projects"
umount -l $quotas
rm $quotas.img
at /var/tmp/plain "project, in the pool"
