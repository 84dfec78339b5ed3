#!/busybox sh
# The first program of a guest: puts the disks together and hands over. A failure here is told on the console and ends
# the guest, which the host takes for what it is.
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
for module in /modules/*; do
    /busybox insmod $module
done
/busybox mount -t ext4 -o noatime,noinit_itable /dev/vda /new
/busybox mkdir -p /new/lab
/busybox mount -t ext4 -o ro /dev/vdb /new/lab
/busybox cp -a /new/lab/root/. /new/
init=/lab/init
for word in $(/busybox cat /proc/cmdline); do
    case $word in lab.init=*) init=${word#lab.init=} ;; esac
done
/busybox umount /proc
/busybox mount -o move /dev /new/dev
exec /busybox switch_root /new $init
