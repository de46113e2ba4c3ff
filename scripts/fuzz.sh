#!/usr/bin/env bash
# fuzz.sh TIME [DIR...]: runs every fuzz target of the module, or of the packages
# in DIR, for TIME each (a duration, or a number of executions such as 10000000x).
# Making an interesting input smaller is bounded: by default it may take a minute each,
# in which nothing new is tried.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-10s}
shift || true
[ $# -gt 0 ] || set -- cmd internal
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' "$@" | xargs -n1 dirname | sort -u | while read -r dir; do
	go test -list '^Fuzz' "./$dir" | grep '^Fuzz' | while read -r target; do
		echo "== $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "./$dir" </dev/null
	done
done
