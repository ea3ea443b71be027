#!/usr/bin/env bash
# Makes everything that is handed out into dist/: programs, Debian packages, a
# container image, what they are made of (SBOM), the licences of that, and their
# SHA-256 sums. The same commit and the same Go give the same bytes. Needs Go, git, dpkg-deb and
# buildah.
set -euo pipefail
cd "$(dirname "$0")/.."

dist=${1:-dist}
if [ -e "$dist" ] && [ -n "$(ls -A "$dist")" ]; then
	echo "release.sh: $dist is not empty" >&2
	exit 2
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
	packaging/alerts.yml packaging/grafana.json
	server/durability/README.md server/e2e/modules_test.go server/openapi.json
)

package() { # package ARCH
	local root=$work/deb-$1 document
	install -D -m 0755 "$dist/attachd-linux-$1" "$root/usr/bin/attachd"
	install -D -m 0644 packaging/attachd.service packaging/attachd.socket -t "$root/lib/systemd/system"
	for document in "${documents[@]}"; do
		install -D -m 0644 "$document" "$root/usr/share/doc/attachd/$document"
	done
	install -m 0644 "$dist/$notices" -t "$root/usr/share/doc/attachd"
	install -D -m 0644 "$work"/man/*.gz -t "$root/usr/share/man/man1"
	install -D -m 0644 "$work/completion.bash" "$root/usr/share/bash-completion/completions/attachd"
	install -D -m 0644 "$work/completion.zsh" "$root/usr/share/zsh/vendor-completions/_attachd"
	install -D -m 0644 "$work/completion.fish" "$root/usr/share/fish/vendor_completions.d/attachd.fish"
	mkdir -p "$root/etc/attachd" "$root/DEBIAN"
	# The package prepares the data directory, so its service never has to begin one.
	sed -e 's|^data_dir = .*|data_dir = "/var/lib/attachd"|' -e 's|^require_existing = .*|require_existing = true|' \
		config.example.toml >"$root/etc/attachd/config.toml"
	install -m 0644 packaging/debian/conffiles packaging/debian/templates -t "$root/DEBIAN"
	install -m 0755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm -t "$root/DEBIAN"
	sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$1/" -e "s/@SIZE@/$(du -sk --apparent-size "$root" | cut -f1)/" \
		packaging/debian/control >"$root/DEBIAN/control"
	dpkg-deb --build --root-owner-group "$root" "$dist/attachd_${version}_$1.deb" >/dev/null
}

image() { # image ARCH
	local context=$work/image-$1
	mkdir -p "$context/data"
	cp "$dist/attachd-linux-$1" "$context/attachd"
	cp packaging/Containerfile "$dist/$notices" "$context"
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

notices=THIRD-PARTY-NOTICES.txt
cp server/cli/notices.txt "$dist/$notices"
# What cobra and attachd itself know of the commands, for the shells and man.
go build -o "$work/attachd" .
for shell in bash zsh fish; do
	"$work/attachd" completion "$shell" >"$work/completion.$shell"
done
mkdir "$work/man"
"$work/attachd" man "$work/man"
gzip -9n "$work"/man/*
for arch in amd64 arm64; do
	for os in linux darwin windows; do
		suffix=
		[ "$os" = windows ] && suffix=.exe
		build "$os" "$arch" "$dist/attachd-$os-$arch$suffix"
	done
	package "$arch"
	image "$arch"
done
go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 mod \
	-licenses=false -noserial -type application -json -output "$dist/attachd.cdx.json" . 2>"$work/sbom" || {
	cat "$work/sbom" >&2
	exit 1
}
# The list says when it was made, which is when its commit was.
sed -i "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\"/" "$dist/attachd.cdx.json"
cd "$dist"
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
