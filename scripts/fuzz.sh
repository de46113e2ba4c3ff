#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME.
set -euo pipefail
cd "$(dirname "$0")/.."

grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' cmd internal | xargs -n1 dirname | sort -u | while read -r dir; do
	go test -list '^Fuzz' "./$dir" | grep '^Fuzz' | while read -r target; do
		echo "== $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" "./$dir" </dev/null
	done
done
