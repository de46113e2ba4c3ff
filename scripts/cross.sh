#!/usr/bin/env bash
# cross.sh: the program compiles without cgo, and every package with its tests
# type-checks, for each promised platform.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for os in linux darwin windows; do
	for arch in amd64 arm64; do
		echo "== $os/$arch"
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -buildvcs=false -o "$out/" ./cmd/monitor
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go vet ./...
	done
done
echo "== linux/amd64, static (docs/decisions/0020-purego.md)"
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -buildvcs=false -tags static -o "$out/" ./cmd/monitor
if ! go version -m "$out/monitor" >/dev/null || grep -q ld-linux "$out/monitor"; then
	echo "the static build names glibc's loader" >&2
	exit 1
fi
