#!/bin/sh
# Runs sshd and rsyslog in a mount namespace of their own (unshare -m), with users, a /dev/log and a /run that nobody else
# sees: sshd-alone.sh FOLDER SSHD RSYSLOGD
set -eu
folder=$1
mount --make-rprivate /
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/shadow" /etc/shadow
mount --bind "$folder/pam" /etc/pam.d/sshd
mkdir "$folder/dev"
mount -t tmpfs none "$folder/dev"
for device in null zero random urandom tty ptmx; do
    touch "$folder/dev/$device"
    mount --bind "/dev/$device" "$folder/dev/$device"
done
mkdir "$folder/dev/pts"
mount --bind /dev/pts "$folder/dev/pts"
mount --rbind "$folder/dev" /dev
mount -t tmpfs none /run
mkdir /run/sshd
"$3" -n -i "$folder/rsyslogd.pid" -f "$folder/rsyslog.conf" &
while [ ! -S /dev/log ]; do sleep 0.05; done
exec "$2" -D -f "$folder/sshd_config"
