#!/usr/bin/env bash
# test-deps.sh: brings what the tests need into .cache/test (ignored by git):
#   home/  a MONITOR_HOME with the real engine and the real small model
#   second/  a MONITOR_HOME with a second small model, of another architecture
#   node/  the npm package typescript, the reference parser for its language
#   rust-ref/, corpus/  the one for Rust, and real code of every language
# Quick when all of it is there. Needs bin/monitor (make test-deps builds it).
# What cannot be brought is said and is no failure here: the tests that need it
# name it, and fail where CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."

typescript=5.9.3
cache=$PWD/.cache/test
mkdir -p "$cache"

# Downloads and compiles for itself while the engine is downloaded.
internal/codebase/testdata/outline/fetch-corpus </dev/null >"$cache/corpus.log" &
corpus=$!

if ! MONITOR_HOME=$cache/home bin/monitor setup --yes </dev/null >"$cache/setup.log" 2>&1; then
	echo "test-deps: the engine and the model could not be set up; $cache/setup.log ends:" >&2
	tail -n 15 "$cache/setup.log" >&2
fi

# In a home of its own, so that the other tests find one model in theirs.
if ! MONITOR_HOME=$cache/second bin/monitor models pull gemma-3-270m </dev/null >"$cache/second.log" 2>&1; then
	echo "test-deps: the second model could not be brought; $cache/second.log ends:" >&2
	tail -n 15 "$cache/second.log" >&2
fi

have=$(sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$cache/node/node_modules/typescript/package.json" 2>/dev/null || true)
if [ "$have" != "$typescript" ]; then
	if command -v npm >/dev/null; then
		mkdir -p "$cache/node"
		npm install --prefix "$cache/node" --no-save --no-audit --no-fund --ignore-scripts "typescript@$typescript" </dev/null >"$cache/npm.log" 2>&1 ||
			{ echo "test-deps: npm could not bring typescript; $cache/npm.log ends:" >&2; tail -n 15 "$cache/npm.log" >&2; }
	else
		echo "test-deps: npm is not installed, so the TypeScript outline is not compared with the reference parser (apt-get install -y nodejs npm)" >&2
	fi
fi

wait "$corpus"
for tool in ctags java; do
	command -v "$tool" >/dev/null ||
		echo "test-deps: $tool is not installed, so the outline of its languages is not compared with it (apt-get install -y universal-ctags default-jdk-headless)" >&2
done
