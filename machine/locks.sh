#!/bin/sh
# Write requirements.lock (what runs) and requirements-dev.lock (what tests it, too) anew from pyproject.toml; what is
# locked already stays at its version. Needs pip-compile (pip-tools) of the oldest Python we support on the PATH.
set -eu
cd "$(dirname "$0")/.."
options="--quiet --allow-unsafe --generate-hashes --no-emit-find-links --no-emit-index-url --no-emit-trusted-host --strip-extras"
export CUSTOM_COMPILE_COMMAND="machine/locks.sh"

# shellcheck disable=SC2086 # options are words
pip-compile $options --extra=mysql --output-file=requirements.lock pyproject.toml
python3 - <<'PYTHON' >.dev.in
import tomllib
from pathlib import Path

print("-c requirements.lock", *tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]["dev"], sep="\n")
PYTHON
trap 'rm -f .dev.in' EXIT
# shellcheck disable=SC2086
pip-compile $options --extra=mysql --output-file=requirements-dev.lock pyproject.toml .dev.in
