#!/bin/sh
# Write requirements.lock (what runs), requirements-cluster.lock (with the extra `cluster`), requirements-dev.lock (what
# tests it, too) and requirements-docs.lock (what makes the manual and the bill of materials) anew from pyproject.toml;
# what is locked already stays at its version. Needs pip-compile (pip-tools) of the oldest Python we support on the
# PATH.
set -eu
cd "$(dirname "$0")/.."
trap 'rm -f .cluster.in .dev.in .docs.in' EXIT
options="--quiet --allow-unsafe --generate-hashes --no-emit-find-links --no-emit-index-url --no-emit-trusted-host --strip-extras"
export CUSTOM_COMPILE_COMMAND="machine/locks.sh"

# shellcheck disable=SC2086 # options are words
pip-compile $options --extra=mysql --output-file=requirements.lock pyproject.toml
group() {
    python3 - "$1" <<'PYTHON' >".$1.in"
import sys, tomllib
from pathlib import Path

group = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"][sys.argv[1]]
print("-c requirements.lock", *group, sep="\n")
PYTHON
}
echo "-c requirements.lock" >.cluster.in
# shellcheck disable=SC2086
pip-compile $options --extra=mysql --extra=cluster --output-file=requirements-cluster.lock pyproject.toml .cluster.in
group dev
group docs
# shellcheck disable=SC2086
pip-compile $options --extra=mysql --extra=cluster --output-file=requirements-dev.lock pyproject.toml .dev.in
# shellcheck disable=SC2086
pip-compile $options --output-file=requirements-docs.lock .docs.in
