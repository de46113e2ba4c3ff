#!/usr/bin/env bash
# cross.sh: every package compiles without cgo for each promised platform, and
# its tests do for each system (on amd64: the tests know no processors, and what
# they import takes longer to compile than all of ours).
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for os in linux darwin windows; do
	for arch in amd64 arm64; do
		echo "== $os/$arch"
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -buildvcs=false ./...
		if [ $arch = amd64 ]; then
			CGO_ENABLED=0 GOOS=$os GOARCH=$arch go vet ./...
		fi
	done
done
echo "== linux/amd64, static (docs/decisions/0020-purego.md)"
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -buildvcs=false -tags static -o "$out/" ./cmd/monitor
# readelf comes with the C compiler that make test asks for.
if readelf -d "$out/monitor" | grep NEEDED; then
	echo "the static build is not static" >&2
	exit 1
fi
