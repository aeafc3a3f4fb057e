"""The house keeps its word: targets are listed, versions are locked, no skipped test is hidden."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# --- make ------------------------------------------------------------------------------------------------


def test_make_alone_lists_the_targets() -> None:
    said = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for target in ("install", "run", "check", "test", "test-long", "bench"):
        assert re.search(rf"^  make {target} +\S", said, re.MULTILINE), target


def test_ci_runs_exactly_make_test() -> None:
    commands = [
        line for line in (REPOSITORY / ".ci/run").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert commands[-1] == "make test"


def test_make_test_starts_every_test_that_is_not_long() -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make` runs this
    wanted = subprocess.run(
        ["make", "-n", "test"], cwd=REPOSITORY, env=alone, capture_output=True, text=True, check=True
    ).stdout
    assert "-m 'not long'" in wanted.splitlines()[-1]
    assert "tests/" not in wanted.splitlines()[-1]


# --- the lock --------------------------------------------------------------------------------------------


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNS = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["mysql"]]
TESTS = PROJECT["dependency-groups"]["dev"]


def names_in(lock: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)==(\S+) ", (REPOSITORY / lock).read_text(), re.MULTILINE)
    return dict(found)


def test_what_runs_is_locked_alike_for_those_who_run_it_and_for_those_who_test_it() -> None:
    runs, all_of_it = names_in("requirements.lock"), names_in("requirements-dev.lock")
    cluster = names_in("requirements-cluster.lock")
    assert runs.items() <= cluster.items() <= all_of_it.items()
    assert {"psycopg", "psycopg-binary", "procrastinate"} <= cluster.keys() - runs.keys(), (
        "one machine needs no server's driver"
    )
    assert not {"mypy", "pytest", "pynetdicom", "ruff", "hypothesis"} & runs.keys(), (
        "it brings a storescp of its own"
    )


CLUSTER = PROJECT["project"]["optional-dependencies"]["cluster"]
LOCKS = [
    ("requirements.lock", RUNS),
    ("requirements-cluster.lock", RUNS + CLUSTER),
    ("requirements-dev.lock", RUNS + CLUSTER + TESTS),
]


@pytest.mark.parametrize(("lock", "needed"), LOCKS)
def test_every_dependency_is_locked_with_hashes_and_from_nowhere_in_particular(lock, needed) -> None:
    lock = (REPOSITORY / lock).read_text()
    entries = re.findall(
        r"^([a-z0-9._-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.MULTILINE
    )
    locked = {name for name, _ in entries}
    assert len(locked) == len(re.findall(r"^[a-z0-9]", lock, re.MULTILINE))
    for wanted in needed:
        assert re.split(r"[<>=\[; ]", wanted)[0] in locked, wanted
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    assert not [line for line in lines if "://" in line or "index" in line or "find-links" in line]


# --- skips and the corpus --------------------------------------------------------------------------------


def pytest_run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(REPOSITORY / "tests/conftest.py", folder)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {REPOSITORY / 'tests'}\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "CI", "STORESTOW"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**clean, **environment},
    )


def test_a_skipped_test_is_seen_and_fails_the_run_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('why not')\n")
    at_home = pytest_run(tmp_path)
    assert at_home.returncode == 0
    assert "1 skipped, in CI this would fail the run" in at_home.stdout
    assert pytest_run(tmp_path, CI="true").returncode == 1


def test_without_the_corpus_tests_use_bundled_files_and_say_so_but_fail_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(corpus): assert (corpus / 'CT_small.dcm').exists()\n")
    at_home = pytest_run(tmp_path, STORESTOW_CORPUS=str(tmp_path / "nowhere"))
    assert at_home.returncode == 0
    assert "WARNING: the corpus is not there" in at_home.stdout
    in_ci = pytest_run(tmp_path, STORESTOW_CORPUS=str(tmp_path / "nowhere"), CI="true")
    assert in_ci.returncode == 1
    assert "this is CI" in in_ci.stdout
