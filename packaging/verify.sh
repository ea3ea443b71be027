#!/usr/bin/env bash
# Looks at what release.sh makes: the same bytes twice, a signature that attachd
# and OpenSSH take, sources that build without a network, programs that know their
# commit, packages that lintian takes and whose documents lead somewhere, an
# image with a name whose program runs, a hardened unit; and runs drill.sh where
# the system lets it. Needs Go, git, OpenSSH, dpkg-deb, buildah, lintian and
# systemd-analyze; the drill needs root, debootstrap and systemd-nspawn.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export RELEASE_KEY=$work/key RELEASE_MAINTAINER='attachd <attachd@example.org>'
ssh-keygen -q -t ed25519 -N '' -C 'a test' -f "$RELEASE_KEY"
packaging/release.sh --to "$work/one"
packaging/release.sh --to "$work/two" >/dev/null
diff -r "$work/one" "$work/two"
echo 'verify: made twice, the same bytes'

arch=$(go env GOARCH)
"$work/one/attachd-linux-$arch" verify-release "$work/one" --key "$RELEASE_KEY.pub"
echo "release $(cat "$RELEASE_KEY.pub")" >"$work/signers"
ssh-keygen -Y verify -f "$work/signers" -I release -n attachd-release -s "$work/one/SHA256SUMS.sig" <"$work/one/SHA256SUMS"
(cd "$work/one" && sha256sum --check --quiet SHA256SUMS)
[ "$(wc -l <"$work/one/SHA256SUMS")" = "$(find "$work/one" -type f ! -name 'SHA256SUMS*' | wc -l)" ]
echo 'verify: the signature is taken, and is over every file'

mkdir "$work/source"
tar -xzf "$work"/one/attachd-*-source.tar.gz -C "$work/source" --strip-components=1
offline=(env GOPROXY=off GOFLAGS= GOTOOLCHAIN=local GOMODCACHE="$work/no-modules")
if unshare --net true 2>/dev/null; then
	offline=(unshare --net "${offline[@]}")
fi
(cd "$work/source" && "${offline[@]}" go build -o "$work/attachd" . && "${offline[@]}" go vet .)
case $("$work/attachd" version) in
*"$(git rev-parse --short=12 HEAD)"* | *"$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null || echo 'no tag')"*) ;;
*)
	echo "verify: built from the source archive, the program calls itself $("$work/attachd" version)" >&2
	exit 1
	;;
esac
echo 'verify: the source archive builds without a network, and knows its commit'

# The licence is yet to be chosen.
lintian --allow-root --fail-on error,warning --suppress-tags no-copyright-file "$work"/one/*.deb
echo 'verify: lintian finds no error and no warning'

commit=$(git rev-parse --short=12 HEAD)
version=$("$work/one/attachd-linux-$arch" version)
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
	commit=$tag
fi
case $version in
*"$commit"*) echo "verify: the program says what it is: $version" ;;
*)
	echo "verify: the program calls itself $version, and is of $commit" >&2
	exit 1
	;;
esac

dpkg-deb --extract "$work"/one/attachd_*_amd64.deb "$work/deb"
dead=$(cd "$work/deb/usr/share/doc/attachd" && find . -name '*.md' | while read -r document; do
	{ grep -o ']([^)]*)' "$document" || true; } | sed -e 's/^](//' -e 's/)$//' -e 's/#.*//' | grep -v -e '^$' -e '^https\?:' |
		while read -r link; do
			[ -e "$(dirname "$document")/$link" ] || echo "$document: $link"
		done
done || true)
if [ -n "$dead" ]; then
	echo "verify: links of installed documents that lead nowhere: $dead" >&2
	exit 1
fi
echo 'verify: the links of the installed documents lead somewhere'

notices=THIRD-PARTY-NOTICES.txt
cmp "$work/one/$notices" "$work/deb/usr/share/doc/attachd/$notices"
for program in "$work"/one/attachd-{linux,darwin}-{amd64,arm64} "$work"/one/attachd-windows-*.exe; do
	go version -m "$program" | awk '$1 == "dep" { print $2, $3 }' | while read -r module version; do
		grep -qF "==== $module $version: " "$work/one/$notices" || {
			echo "verify: $(basename "$program") has $module in it, whose licence is not handed out" >&2
			exit 1
		}
	done
done
echo 'verify: the licence of each linked module is handed out'

mkdir "$work/oci" "$work/root"
tar -xf "$work/one/attachd-image-linux-$arch.tar" -C "$work/oci"
blob() { echo "$work/oci/blobs/$(tr : / <<<"$1")"; }
digests() { grep -o '"digest":"[^"]*"' | cut -d'"' -f4; }
# podman and others name the image by this as they load it.
grep -q '"org.opencontainers.image.ref.name":"attachd:latest"' "$work/oci/index.json"
manifest=$(digests <"$work/oci/index.json")
# The first digest in a manifest is that of its configuration, the others are layers.
for layer in $(digests <"$(blob "$manifest")" | tail -n +2); do
	tar -xf "$(blob "$layer")" -C "$work/root"
done
"$work/root/attachd" version
cmp "$work/root/attachd" "$work/one/attachd-linux-$arch"
cmp "$work/root/$notices" "$work/one/$notices"
echo 'verify: the image has its name, and the program in it runs'

# The unit names the program where the package puts it.
sed "s|/usr/bin/attachd|$work/root/attachd|" packaging/attachd.service >"$work/attachd.service"
systemd-analyze verify "$work/attachd.service"
systemd-analyze security --offline=true --threshold=15 --no-pager "$work/attachd.service" | tail -1

if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork --mount-proc true 2>"$work/why"; then
	packaging/drill.sh "$work/one" "$work/two"
else
	echo "verify: the drill is skipped: it needs root and namespaces of its own. $(cat "$work/why")"
fi
du -b "$work"/one/*
