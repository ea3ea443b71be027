#!/usr/bin/env bash
# Makes what is handed out, by default into dist/: programs with what each is made
# of (SBOM), Debian packages, container images, the sources with all modules, the
# licences, and SHA256SUMS, which it signs. The same commit, Go and key give the
# same bytes.
#
#   packaging/release.sh [--to DIR] [binaries|deb|image|source]...
#
# Without parts it makes all. RELEASE_KEY names the private key of OpenSSH that
# signs; by default it is ~/.config/attachd/release, which is made where it is
# missing. RELEASE_MAINTAINER is who the packages name, as in "Ada <ada@example.org>".
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	echo "release.sh: $*" >&2
	exit 2
}

dist=dist parts=()
while [ $# -gt 0 ]; do
	case $1 in
	--to) dist=${2:?--to takes a folder} && shift ;;
	binaries | deb | image | source) parts+=("$1") ;;
	*) fail "there is no part $1: they are binaries, deb, image and source" ;;
	esac
	shift
done
[ ${#parts[@]} -gt 0 ] || parts=(binaries deb image source)
wants() { [[ " ${parts[*]} " == *" $1 "* ]]; }

# Everything that is missing is said before anything is made.
needs=(go git ssh-keygen sha256sum gzip tar)
wants deb && needs+=(dpkg-deb)
wants image && needs+=(buildah)
missing=()
for command in "${needs[@]}"; do
	command -v "$command" >/dev/null || missing+=("$command")
done
[ ${#missing[@]} = 0 ] || fail "this needs ${missing[*]}, which is not installed"
[ -z "$(git status --porcelain)" ] || fail 'there are changes that are not committed: what is made would not be of a commit'
if [ -e "$dist" ] && [ -n "$(ls -A "$dist")" ]; then
	fail "$dist is not empty"
fi
key=${RELEASE_KEY:-${XDG_CONFIG_HOME:-$HOME/.config}/attachd/release}
if [ ! -e "$key" ]; then
	[ -z "${RELEASE_KEY:-}" ] || fail "RELEASE_KEY: there is no $key"
	mkdir -p "$(dirname "$key")"
	ssh-keygen -q -t ed25519 -N '' -C 'releases of attachd' -f "$key"
	echo "release.sh: made the key $key, which signs releases. Keep it, and publish $key.pub" >&2
fi
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whatever `go env -w` or the shell says here, the bytes are the same, run on any
# processor of their kind, and know the commit that they are of.
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C CGO_ENABLED=0 GOFLAGS=-buildvcs=true GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
	version=${tag#v}
else
	version=0~$(git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S).$(git rev-parse --short=12 HEAD)
fi
umask 022

build() { # build OS ARCH FILE
	GOOS=$1 GOARCH=$2 go build -trimpath -ldflags='-s -w' -o "$3" .
}

# What is installed to be read. The documents link to the rest of these, so all
# lie as they do here; verify.sh looks whether a link leads nowhere.
documents=(
	README.md SECURITY.md CHANGELOG.md CONTRIBUTING.md config.example.toml docs/*.md docs/page.png
	packaging/alerts.yml packaging/grafana.json packaging/compose.yml packaging/kubernetes.yml
	server/durability/README.md server/e2e/modules_test.go server/openapi.json
)

package() { # package ARCH
	local root=$work/deb-$1 document
	install -D -m 0755 "$work/bin/attachd-linux-$1" "$root/usr/bin/attachd"
	install -D -m 0644 packaging/attachd.service packaging/attachd.socket -t "$root/lib/systemd/system"
	for document in "${documents[@]}"; do
		install -D -m 0644 "$document" "$root/usr/share/doc/attachd/$document"
	done
	install -m 0644 "$work/$notices" -t "$root/usr/share/doc/attachd"
	changelog >"$root/usr/share/doc/attachd/changelog"
	gzip -9n "$root/usr/share/doc/attachd/changelog"
	install -D -m 0644 "$work"/man/*.gz -t "$root/usr/share/man/man1"
	install -D -m 0644 "$work/completion.bash" "$root/usr/share/bash-completion/completions/attachd"
	install -D -m 0644 "$work/completion.zsh" "$root/usr/share/zsh/vendor-completions/_attachd"
	install -D -m 0644 "$work/completion.fish" "$root/usr/share/fish/vendor_completions.d/attachd.fish"
	mkdir -p "$root/etc/attachd" "$root/DEBIAN"
	# The package prepares the data directory, so its service never has to begin one.
	sed -e 's|^data_dir = .*|data_dir = "/var/lib/attachd"|' -e 's|^require_existing = .*|require_existing = true|' \
		config.example.toml >"$root/etc/attachd/config.toml"
	install -m 0644 packaging/debian/conffiles packaging/debian/templates -t "$root/DEBIAN"
	install -D -m 0644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/attachd"
	install -m 0755 packaging/debian/config packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm -t "$root/DEBIAN"
	sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$1/" -e "s/@SIZE@/$(du -sk --apparent-size "$root" | cut -f1)/" \
		-e "s|@MAINTAINER@|$maintainer|" packaging/debian/control >"$root/DEBIAN/control"
	(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$work/md5sums"
	install -m 0644 "$work/md5sums" -t "$root/DEBIAN"
	dpkg-deb --build --root-owner-group "$root" "$dist/attachd_${version}_$1.deb" >/dev/null
}

image() { # image ARCH
	local context=$work/image-$1
	mkdir -p "$context/data"
	cp "$work/bin/attachd-linux-$1" "$context/attachd"
	cp packaging/Containerfile "$work/$notices" "$context"
	buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs build --quiet --isolation chroot \
		--timestamp "$SOURCE_DATE_EPOCH" --platform "linux/$1" --tag "attachd:${version//[~+]/-}" "$context" >/dev/null
	buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs push --quiet \
		"attachd:${version//[~+]/-}" "oci-archive:$work/image.tar:attachd:latest" >/dev/null
	# The archive's own times are those of its making.
	mkdir "$work/oci-$1"
	tar -xf "$work/image.tar" -C "$work/oci-$1"
	rm "$work/image.tar"
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		-cf "$dist/attachd-image-linux-$1.tar" -C "$work/oci-$1" .
}

maintainer=${RELEASE_MAINTAINER:-attachd <attachd@$(hostname -f 2>/dev/null || hostname)>}

changelog() { # of the package, in Debian's form; CHANGELOG.md has what changed
	printf 'attachd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' \
		"$version" "$maintainer" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
}

# sources packs the commit with all modules, so that it builds without a network.
sources() {
	local name=attachd-${version//[~+]/-}
	git archive --prefix="$name/" HEAD | tar -xf - -C "$work"
	(cd "$work/$name" && go mod vendor)
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go-w \
		-cf - -C "$work" "$name" | gzip -9n >"$dist/$name-source.tar.gz"
}

notices=THIRD-PARTY-NOTICES.txt
cp server/cli/notices.txt "$work/$notices"
cp server/cli/notices.txt "$dist/$notices"
mkdir "$work/bin" "$work/man"
go build -o "$work/attachd" .
# What cobra and attachd itself know of the commands, for the shells and man.
for shell in bash zsh fish; do
	"$work/attachd" completion "$shell" >"$work/completion.$shell"
done
"$work/attachd" man "$work/man"
gzip -9n "$work"/man/*
for arch in amd64 arm64; do
	for os in linux darwin windows; do
		[ "$os" = linux ] || wants binaries || continue
		suffix=
		[ "$os" = windows ] && suffix=.exe
		program=attachd-$os-$arch$suffix
		build "$os" "$arch" "$work/bin/$program"
		wants binaries || continue
		cp "$work/bin/$program" "$dist"
		"$work/attachd" sbom "$dist/$program" >"$dist/$program.cdx.json"
	done
	! wants deb || package "$arch"
	! wants image || image "$arch"
done
! wants source || sources
cd "$dist"
sha256sum -- * >"$work/SHA256SUMS"
ssh-keygen -q -Y sign -n attachd-release -f "$key" "$work/SHA256SUMS"
cp "$work/SHA256SUMS" "$work/SHA256SUMS.sig" .
cat SHA256SUMS
