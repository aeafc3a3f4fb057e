#!/bin/sh
# Make .venv what requirements-dev.lock and pyproject.toml say. Quick when it is so already: the stamp holds what
# the last complete installation was made from, and where, because a .venv does not survive being moved.
set -eu
cd "$(dirname "$0")/.."

STAMP=.venv/storestow-stamp
wanted="$(cat requirements-dev.lock pyproject.toml | cksum) $(pwd -P)"
if [ -x .venv/bin/python ] && [ -r "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ]; then
    exit 0
fi

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if is_new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "install: no Python 3.11 or newer; install one (Debian 12 and 13, Ubuntu 24.04: python3)," >&2
    echo "install: or name one: make install PYTHON=/path/to/python3.12" >&2
    exit 69
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# Debian keeps ensurepip, without which there is no pip in a new environment, in a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if command -v apt-get >/dev/null; then
        machine/packages.sh "python$version-venv"
    else
        echo "install: $python has no ensurepip module; install your system's python venv package" >&2
        exit 69
    fi
fi

if ! is_new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
    [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)')" != "$(pwd -P)/.venv" ]; then
    echo "install: .venv with Python $version ($("$python" -c 'import sys; print(sys.executable)'))"
    "$python" -m venv --clear .venv
fi

rm -f "$STAMP"
echo "install: Python packages of requirements-dev.lock, checked by their hashes"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes --requirement requirements-dev.lock
echo "install: storestow itself, as a link to this folder"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
    --no-deps --no-build-isolation --editable .
echo "$wanted" >"$STAMP"
