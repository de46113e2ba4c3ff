#!/usr/bin/env bash
# test.sh: the one command. Every check in turn, cheapest first, so that what is
# wrong shows early; at the end, what this machine could not run, with the line
# that would make it run. With CI=true that list must be empty.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prerequisites.sh go git cc python
start=$SECONDS
step() { printf '\n== %s (at %d s)\n' "$1" $((SECONDS - start)); }

# A new name each time: a package that left something out has read the variable,
# so Go's test cache does not answer for it, and it says so again.
mkdir -p .cache/test
MONITOR_TEST_MISSING=$(mktemp "$PWD/.cache/test/missing.XXXXXX")
export MONITOR_TEST_MISSING
trap 'rm -f "$MONITOR_TEST_MISSING"' EXIT

step "build"
make --no-print-directory build
step "test-deps"
scripts/test-deps.sh
step "lint"
scripts/lint.sh
step "cross-compile"
scripts/cross.sh
step "govulncheck"
vuln=$(mktemp)
if go tool -modfile=tools/go.mod govulncheck ./... >"$vuln" 2>&1; then
	tail -n 1 "$vuln"
elif grep -qE 'fetching vulnerabilities|no such host|connection refused|i/o timeout' "$vuln"; then
	# Left out of what CI must run: that its database is out of reach says
	# nothing about this code, and nothing here can mend it.
	echo "not run: the vulnerability database cannot be reached from here (run make test where it can)"
else
	cat "$vuln"
	exit 1
fi
rm -f "$vuln"

failed=0
# The race detector needs cgo, so the calls into a driver were not the ones that ship.
step "go test without cgo"
CGO_ENABLED=0 go test ./internal/gpu || failed=1
# Ten times as many worlds as under the race detector; nothing there runs at once.
step "the planner's properties, 100,000 worlds"
CGO_ENABLED=0 go test -run 'TestProperties$|BestOfAll$' ./internal/placement || failed=1

step "the scheduler, 100,000 steps of random worlds"
CGO_ENABLED=0 go test -run 'TestWorlds$|TestTheSame' ./internal/scheduler || failed=1

step "go test -race"
# -p 2: on two cores more test binaries at once only make each other late; each
# package still runs its own parallel tests.
go test -race -p 2 -timeout 20m ./... || failed=1

# A model's header is the one thing from strangers that is read before its
# checksum; where nobody waits, it gets a minute of new ones. make fuzz is for all.
if [ "${CI:-}" = true ]; then
	step "fuzz: headers of models, a minute"
	scripts/fuzz.sh 60s internal/gguf || failed=1
fi

step "end"
if [ -s "$MONITOR_TEST_MISSING" ]; then
	echo "Not run on this machine:"
	sort -u "$MONITOR_TEST_MISSING" | sed 's/^/  /'
	if [ "${CI:-}" = true ]; then
		echo "CI=true: nothing may be left out." >&2
		failed=1
	fi
else
	echo "Nothing was left out."
fi
exit $failed
