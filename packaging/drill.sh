#!/usr/bin/env bash
# Runs the first four chapters of docs/operating.md as printed, on a fresh Debian that
# boots with systemd in a container of its own, then what they only tell of.
# Takes two folders that release.sh made, of which the second is installed as
# the upgrade. Needs root, debootstrap and systemd-nspawn; where these cannot
# work it says so and ends.
set -euo pipefail

old=$(realpath "$1") new=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) tree=$work/debian
trap 'rm -rf "$work"' EXIT
skip() {
	echo "drill: skipped: $1"
	exit 0
}

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | head -1)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,adduser,curl "$suite" "$tree" "$mirror" >"$work/log" 2>&1 || {
	tail -3 "$work/log"
	skip 'no Debian could be fetched'
}
systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$tree" /bin/true || skip 'this system runs no containers'

mkdir "$tree/root/old" "$tree/root/new"
cp "$old"/*.deb "$tree/root/old"
cp "$new"/*.deb "$tree/root/new"
{
	echo 'set -euo pipefail; cd /root/old; exec </dev/null'
	# Each block is shown as it is run; a pipe into grep is a check.
	awk '/^## Upgrade/ { print "cd /root/new" }
		/^## Reverse/ { exit }
		/^```sh$/ { block = 1; print "set -v"; next }
		/^```$/ && block { block = 0; print "{ set +v; } 2>/dev/null"; next }
		block' "$here/../docs/operating.md"
	cat <<'END'
# Functions, since `set -e` does not look at what follows a !.
files() { [ -n "$(ls /var/lib/attachd/blobs/sha256 2>/dev/null)" ]; }
gone() { [ ! -e /var/lib/attachd ] && [ -z "$(find /etc/attachd /etc/systemd /var/lib/systemd -name 'attachd*' 2>/dev/null)" ]; }
runs() { systemctl is-active --quiet "$1"; }
rests() { ! systemctl is-active --quiet "$1"; }
disabled() { ! systemctl is-enabled --quiet "$1"; }
upgrade() { dpkg --install /root/new/attachd_*_"$(dpkg --print-architecture)".deb; }
purge() { # purge ANSWER, as a person gives it at a terminal
	echo "$1" | script --quiet --return --command 'DEBIAN_FRONTEND=readline TERM=dumb dpkg --purge attachd' /root/asked
	grep -q 'Remove the files that people uploaded' /root/asked
}
files

echo 'drill: after a removal it starts again, with the files of before'
upgrade
runs attachd
dpkg --remove attachd
rests attachd
upgrade
runs attachd

refuses() { # refuses SENTENCE: the service says so instead of starting
	systemctl start attachd || true
	systemctl stop attachd
	# It may take a moment into the journal; what is never said ends the drill.
	until journalctl --unit attachd --lines 30 --no-pager | grep "$1"; do sleep 1; done
}

echo 'drill: where a disk is not mounted, nothing is begun anew'
grep -q '^require_existing = true$' /etc/attachd/config.toml
systemctl stop attachd
mv /var/lib/attachd /var/lib/elsewhere
install -d -m 0700 -o attachd -g attachd /var/lib/attachd
refuses 'Is the disk mounted'
rmdir /var/lib/attachd # nothing was made in it
mv /var/lib/elsewhere /var/lib/attachd
systemctl start attachd

echo 'drill: a data directory elsewhere'
systemctl stop attachd
install -d -m 0700 -o attachd -g attachd /srv/attachd
sed -i.before 's|^data_dir = .*|data_dir = "/srv/attachd"|' /etc/attachd/config.toml
refuses 'attachd init --data-dir /srv/attachd'
attachd init
refuses 'ReadWritePaths=/srv/attachd'
mkdir -p /etc/systemd/system/attachd.service.d
printf '[Unit]\nRequiresMountsFor=/srv/attachd\n[Service]\nReadWritePaths=/srv/attachd\n' >/etc/systemd/system/attachd.service.d/data.conf
systemctl daemon-reload
systemctl start attachd
runs attachd
systemctl stop attachd
rm -r /srv/attachd /etc/systemd/system/attachd.service.d
mv /etc/attachd/config.toml.before /etc/attachd/config.toml
systemctl daemon-reload
systemctl start attachd

echo 'drill: what is disabled stays so, through an upgrade and a removal'
systemctl disable --now --quiet attachd
upgrade
rests attachd
dpkg --remove attachd
upgrade
rests attachd
disabled attachd

echo 'drill: a socket that is enabled stays so'
systemctl enable --now --quiet attachd.socket
systemctl enable --now --quiet attachd
dpkg --remove attachd
rests attachd.socket
upgrade
runs attachd.socket
runs attachd

echo 'drill: neither a signal nor a journal that is gone ends it, and an end is not the last word'
pid() { systemctl show --property MainPID --value attachd; }
listed() { curl -s -H "Authorization: Bearer $KEY" "$FILES" | grep config.toml; }
journal='systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald'
before=$(pid)
systemctl reload attachd
systemctl kill --signal HUP attachd
systemctl kill --signal PIPE attachd
systemctl stop $journal
for _ in 1 2 3; do listed; done
systemctl start $journal
listed
[ "$(pid)" = "$before" ]
for signal in KILL TERM; do
	systemctl kill --signal $signal attachd
	sleep 1
	listed # systemd holds the address until it runs again
done
[ "$(pid)" != "$before" ]

echo 'drill: a purge asks, and keeps the files'
purge no
files

echo 'drill: a purge asks, and removes the files'
upgrade
disabled attachd.socket # as this is a first installation again
runs attachd
purge yes
gone

echo 'drill: a purge was answered before'
upgrade
echo 'attachd attachd/remove-files boolean true' | debconf-set-selections
dpkg --purge attachd
gone
echo drill: passed
END
} >"$tree/root/drill"
cat >"$tree/etc/systemd/system/drill.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /root/drill
Environment=DEBIAN_FRONTEND=noninteractive
StandardOutput=file:/root/out
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff --no-block
TimeoutStartSec=1800
[Install]
WantedBy=default.target
END
mkdir -p "$tree/etc/systemd/system/graphical.target.wants"
ln -s ../drill.service "$tree/etc/systemd/system/graphical.target.wants/drill.service"
systemd-machine-id-setup --root="$tree" >/dev/null 2>&1 # or the first boot asks questions
timeout --kill-after=10 1860 systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$tree" --boot </dev/null >"$work/boot" || cat "$work/boot"
[ -e "$tree/root/out" ] || skip 'the Debian in the container did not boot'
cat "$tree/root/out"
tail -1 "$tree/root/out" | grep -q '^drill: passed$'
