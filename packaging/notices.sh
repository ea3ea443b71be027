#!/usr/bin/env bash
# Prints the licences of what is linked into the programs: Go itself, and each
# module, on any system that attachd is built for. It fails for a module that
# has none. Needs Go. The program has its output in it, which a test compares with
# go.mod: after a change there, packaging/notices.sh >server/cli/notices.txt
set -euo pipefail
cd "$(dirname "$0")/.."

show() { # show NAME FILE...
	local file
	for file in "${@:2}"; do
		printf '\n==== %s: %s\n\n' "$1" "$(basename "$file")"
		cat "$file"
	done
}

echo 'attachd is built with the software below. Its authors want their notices passed on.'
show Go "$(go env GOROOT)/LICENSE"
for os in linux darwin windows; do
	GOOS=$os go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' .
done | sort -u | while read -r path version dir; do
	mapfile -t files < <(find "$dir" -maxdepth 1 -type f -iregex '.*/\(licen[sc]e\|copying\|notice\|patents\)\(\.[a-z]*\)?' | sort)
	if [ ${#files[@]} = 0 ]; then
		echo "notices.sh: $path has no licence" >&2
		exit 1
	fi
	show "$path $version" "${files[@]}"
done
