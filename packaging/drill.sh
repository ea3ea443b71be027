#!/usr/bin/env bash
# Runs the first four chapters of README.md as printed, on a fresh Debian that
# boots with systemd in a container of its own. Takes two folders that
# release.sh made, of which the second is installed as the upgrade. Needs root,
# debootstrap and systemd-nspawn; where these cannot work it says so and ends.
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
		block' "$here/README.md"
	echo '[ -n "$(ls /var/lib/attachd/blobs/sha256)" ] && echo drill: passed'
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
TimeoutStartSec=120
[Install]
WantedBy=default.target
END
mkdir -p "$tree/etc/systemd/system/graphical.target.wants"
ln -s ../drill.service "$tree/etc/systemd/system/graphical.target.wants/drill.service"
systemd-machine-id-setup --root="$tree" >/dev/null 2>&1 # or the first boot asks questions
timeout --kill-after=10 180 systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$tree" --boot </dev/null >"$work/boot" || cat "$work/boot"
[ -e "$tree/root/out" ] || skip 'the Debian in the container did not boot'
cat "$tree/root/out"
tail -1 "$tree/root/out" | grep -q '^drill: passed$'
