#!/bin/sh
# PID 1 of a guest without a service manager: makes it a host as vzd expects one, runs the job, and powers off. What
# the job printed goes to the console's log.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
ln -snf /proc/self/fd /dev/fd
ip link set lo up
modprobe -a tun overlay loop
for word in $(cat /proc/cmdline); do
    case $word in
    lab.index=*) index=${word#lab.index=} ;;
    lab.shell=*) shell=${word#lab.shell=} ;;
    lab.linked) linked=yes ;;
    esac
done
hostname "lab$index"
if [ "$linked" ]; then
    modprobe virtio_net
    link=$(basename /sys/bus/virtio/drivers/virtio_net/virtio*/net/*)
    ip addr add "10.77.0.$((index + 1))/24" dev "$link"
    # Emulated, each frame costs more than what is in it.
    ip link set "$link" mtu 9000 up
fi
mkdir -p /var/lib/lxcfs
lxcfs -f /var/lib/lxcfs >/run/lxcfs.log 2>&1 &
if [ "$index" = 1 ]; then
    /lab/xtask lab-inside serve
else
    [ "$shell" = only ] || /lab/xtask lab-inside
    # 3: a test failed.
    if [ $? = 3 ] && [ "$shell" = failure ] || [ "$shell" = only ]; then
        echo "a shell of the guest; the job is in /lab; exit powers it off"
        HOME=/root TERM=linux PS1='lab\$ ' PATH=/lab:$PATH busybox setsid busybox cttyhack /bin/bash --norc
    fi
fi
sync
busybox poweroff -f
