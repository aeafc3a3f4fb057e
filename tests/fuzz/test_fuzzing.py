"""Hostile bytes at everything that reads what a stranger sent; each finding of the past is thrown again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CORPUS
from support.hostile.hostile_targets import SECONDS, TARGETS, survive

TESTS = Path(__file__).resolve().parents[1]
FINDINGS = sorted(file for file in (TESTS / "findings").glob("*/*") if file.is_file())
COUNT = 400  # a target; the same inputs on every machine, in two seconds where nothing else is at work
LONGEST = 80.0  # seconds
MINUTES = float(os.environ.get("STORESTOW_FUZZ_MINUTES", "10"))  # a target, of `make test-long`


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_was_found_once_does_no_harm_any_more(finding, tmp_path):
    survive(finding.parent.name, finding.read_bytes(), tmp_path)


def fuzz(target: str, folder: Path, *, seed: int, count: int, seconds: float) -> int:
    argv = [sys.executable, "-m", "support.hostile.fuzzing", target, seed, count, seconds, folder]
    corpus = [CORPUS] if CORPUS.is_dir() else []
    done = subprocess.run(
        list(map(str, [*argv, *corpus])),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        timeout=seconds + 40 * SECONDS,
    )
    assert done.returncode == 0, f"seed {seed}, keep {folder / 'current'}:\n{done.stderr[-3000:]}"
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_bytes_do_no_harm(target, tmp_path):
    assert fuzz(target, tmp_path, seed=1, count=COUNT, seconds=LONGEST) == COUNT


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("target", TARGETS)
def test_hours_of_mutated_bytes_do_no_harm(target, tmp_path, record_property):
    seed = int(time.time())
    survived = fuzz(target, tmp_path, seed=seed, count=10**9, seconds=60 * MINUTES)
    record_property(f"table: fuzzing {target}", f"seed {seed}: {survived} inputs in {MINUTES:g} minutes")
