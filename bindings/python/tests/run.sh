#!/bin/sh
# Installs the package, without a network, for every Python that is here and can build it, and runs the tests with it: run.sh [PYTHON]...
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- python3 /usr/bin/python3
ran=
for python in "$@"; do
	program=$(command -v "$python") || { echo "SKIPPED: $python is not installed"; continue; }
	id=$("$program" -c 'import os, sys; print(os.path.realpath(sys.executable))')
	case "$ran" in *" $id "*) continue ;; esac
	headers=$("$program" -c 'import sysconfig; print(sysconfig.get_path("include"))')
	[ -f "$headers/Python.h" ] || { echo "SKIPPED: $program has no headers; apt-get install python3-dev"; continue; }
	ran="$ran $id "
	target=$(mktemp -d)
	trap 'rm -rf "$target"' EXIT
	if "$program" -m pip --version >/dev/null 2>&1; then
		"$program" -m pip install --quiet --no-index --no-deps --disable-pip-version-check --root-user-action=ignore --target "$target" "$here"
	else
		echo "$program has no pip: building in place"
		"$program" "$here/build_backend.py" >/dev/null
		mkdir -p "$target" && cp -r "$here/millrace" "$target/"
	fi
	"$program" -c 'import importlib.util as i; print("numpy is", "there" if i.find_spec("numpy") else "SKIPPED: not installed")'
	echo "testing with $program, $("$program" --version)"
	PYTHONPATH="$target" "$program" -W error::ResourceWarning "$here/tests/test_millrace.py"
	rm -rf "$target"
done
[ -n "$ran" ] || echo "SKIPPED: no Python that can build the extension"
