#!/usr/bin/env bash
# prerequisites.sh NAME...: ends with a line per missing program (go, git, cc,
# python) that says how to install it; silent when all are there.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
missing() { # what, package for apt, package for brew
	failed=1
	local how="see your system's package manager"
	if command -v apt-get >/dev/null; then how="sudo apt-get install -y $2"
	elif command -v dnf >/dev/null; then how="sudo dnf install -y $2"
	elif command -v pacman >/dev/null; then how="sudo pacman -S --needed $2"
	elif command -v brew >/dev/null; then how="brew install $3"
	fi
	printf 'Missing: %s\n  install it: %s\n' "$1" "$how" >&2
}
at_least() { # have, want: dotted numbers
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n | head -n1)" = "$2" ]
}

for need in "$@"; do
	case $need in
	go)
		want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
		# GOTOOLCHAIN=auto lets a Go from 1.21 on fetch the one that go.mod asks for;
		# asked inside the module, it answers with the version it would use.
		have=$(go env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9]*\.[0-9]*\).*/\1/p' || true)
		if [ -z "$have" ] || ! at_least "$have" "$want"; then
			missing "Go $want or newer (found: ${have:-none}); if the package is older, take the archive from go.dev/dl" golang go
		fi ;;
	cc) # what the race detector is linked with
		cc=$(go env CC 2>/dev/null || true)
		command -v "${cc:-cc}" >/dev/null || missing "a C compiler (${cc:-cc}), which go test -race needs" gcc gcc ;;
	git)
		command -v git >/dev/null || missing "git" git git ;;
	python)
		# The same names, in the same order, as the program itself looks for.
		have=""
		for p in python3 python; do
			have=$("$p" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) && break
		done
		if [ -z "$have" ] || ! at_least "$have" 3.10; then
			missing "Python 3.10 or newer with pip (found: ${have:-none})" "python3 python3-pip" python
		elif ! "$p" -m pip --version >/dev/null 2>&1; then
			missing "pip for Python $have" python3-pip python
		fi ;;
	esac
done
exit $failed
