#!/bin/sh
# Makes a Debian with sysvinit, a web server, a database and cron, as the archive $1: for VEs that are moved while they
# are at work. Nobody waits at terminals that a VE has not, nobody reads in there, and few visit its web server.
set -e
exec mmdebstrap --quiet --variant=minbase --mode=root \
    --include=apache2,busybox-static,cron,initscripts,procps,sqlite3,sysv-rc,sysvinit-core \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='sed -i -E "s/^([1-6]:.*getty.*)$/#\1/" "$1"/etc/inittab' \
    --customize-hook='printf "%s\n" "StartServers 1" "ThreadsPerChild 4" "MinSpareThreads 2" "MaxSpareThreads 4" \
        "MaxRequestWorkers 4" > "$1"/etc/apache2/mods-available/mpm_event.conf' \
    bookworm "$1"
