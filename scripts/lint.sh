#!/usr/bin/env bash
# lint.sh: what can be said about the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== gofmt"
unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'not gofmt-ed (make fmt mends it):\n%s\n' "$unformatted" >&2
	exit 1
fi
echo "== go vet"
go vet ./...
echo "== staticcheck"
go tool -modfile=tools/go.mod staticcheck ./...
echo "== tools/"
if why=$(go -C tools mod download 2>&1); then
	go -C tools vet ./...
	go -C tools tool staticcheck ./...
else
	printf 'not looked at, its modules cannot be fetched from here:\n%s\n' "$why"
fi
echo "== go mod tidy -diff"
go mod tidy -diff
echo "== house rules"
go test -count=1 .
