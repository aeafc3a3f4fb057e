"""`storestow disc` that is asked to end leaves nothing of a patient behind, and no program that goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from support.machine.dicom_programs import program, wait_until
from support.studies.discs import an_object

from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

SLICES = 300


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """A series of some hundred slices: one real object under many UIDs."""
    folder = tmp_path_factory.mktemp("study")
    one = an_object(folder / "one")
    uid = str(dcmread(one).SOPInstanceUID)
    (folder / "in").mkdir()
    for number in range(SLICES):
        other = f"{uid[:-3]}{number:03}" if uid[-4] != "." else f"{uid[:-3]}{number + 100}"
        (folder / "in" / str(number)).write_bytes(one.read_bytes().replace(uid.encode(), other.encode()))
    return folder / "in"


def slow_xorriso(folder: Path, when: str) -> None:
    """Have the site use a xorriso that does nothing for long at one moment, and says who it is."""
    file = folder / "fake" / "xorriso"
    file.parent.mkdir()
    real = program("xorriso")
    file.write_text(
        "#!/bin/sh\nsize=no\n"
        f'case "$*" in *--version*) exec {real} "$@";; *-print-size*) size=yes;; esac\n'
        f'if [ $size != {when} ]; then exec {real} "$@"; fi\n'
        'while [ "$1" != -o ]; do shift; done\n[ $size = yes ] || head -c 5000000 /dev/zero >"$2"\n'
        f"echo $$ >{folder}/fake/pid\nexec sleep 60\n"
    )
    file.chmod(0o755)
    (folder / "site.toml").write_text(f'[site]\nspool = "{folder}/spool"\n[programs]\nxorriso = "{file}"\n')


# What is ignored where the tests run in the background, a command in a terminal does not ignore.
AS_IN_A_TERMINAL = (
    "import os, signal, sys\n"
    "for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(one, signal.SIG_DFL)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


def started(slices: Path, folder: Path, *before: str) -> subprocess.Popen[bytes]:
    words = ["disc", str(slices), "-o", str(folder / "A1.iso")]
    site = ["--site", str(folder / "site.toml")] if (folder / "site.toml").exists() else []
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-c", AS_IN_A_TERMINAL),
            *(*before, sys.executable, "-W", "ignore", "-m", "pipeline", *site, *words),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def number_in(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


def nothing_is_left(folder: Path, process: subprocess.Popen[bytes]) -> None:
    assert [one.name for one in folder.iterdir() if one.name not in {"fake", "site.toml"}] == []
    others = [
        one.cmdline() for one in psutil.process_iter() if one.pid != process.pid and _is_of(one, process.pid)
    ]
    assert others == []


def _is_of(one: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(one.pid) == session and one.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.mark.parametrize(
    ("number", "size_is_asked"),
    [(signal.SIGINT, "no"), (signal.SIGTERM, "no"), (signal.SIGTERM, "yes"), (signal.SIGHUP, "no")],
)
def test_one_signal_ends_a_disc_that_is_being_written_and_its_xorriso(number, size_is_asked, slices, tmp_path):
    slow_xorriso(tmp_path, size_is_asked)
    process = started(slices, tmp_path)
    xorriso = wait_until(lambda: number_in(tmp_path / "fake" / "pid"), what="xorriso to be at work")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + number, output
    assert not psutil.pid_exists(xorriso)
    nothing_is_left(tmp_path, process)
    assert b"Traceback" not in output


@pytest.mark.parametrize(
    ("numbers", "from_when"),
    [
        ((signal.SIGINT,), "image"),
        ((signal.SIGINT, signal.SIGTERM), "image.words"),
        ((signal.SIGTERM, signal.SIGHUP), "files0/README.TXT"),
        ((signal.SIGHUP,), "lock"),
    ],
)
def test_any_number_of_signals_leave_all_of_a_disc_or_nothing(numbers, from_when, slices, tmp_path):
    """They are sent to the whole session, as a terminal does, until nobody is there to take them."""
    process = started(slices, tmp_path)
    wait_until(
        lambda: process.poll() is not None or list(tmp_path.glob(f".storestow-disc-*/{from_when}")),
        what=f"{from_when} to be there",
    )
    while process.poll() is None:
        for number in numbers:
            os.killpg(process.pid, number)
        time.sleep(0.0005)
    output, _ = process.communicate()
    assert process.returncode in {128 + number for number in numbers}, output
    for disc in tmp_path.glob("*.iso"):
        assert inspect(disc).is_good
        disc.unlink()
    nothing_is_left(tmp_path, process)


def test_a_disc_made_under_nohup_is_made_though_the_terminal_goes(slices, tmp_path):
    process = started(slices, tmp_path, "nohup")
    wait_until(lambda: list(tmp_path.glob(".storestow-disc-*")), what="the hidden folder")
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert inspect(tmp_path / "A1.iso").is_good
