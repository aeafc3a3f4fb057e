"""systemd and launchd start the same commands, hardened, and their own tools find nothing wrong with the files."""

import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = sorted((REPOSITORY / "systemd").glob("*.service"))
PLISTS = sorted((REPOSITORY / "launchd").glob("*.plist"))
PREFIX = "/opt/storestow"
EXPOSURE_LIMIT = 2.0

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux only")


def directives(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        match = re.fullmatch(r"([A-Za-z]+)=(.*)", line)
        if match:
            found.setdefault(match[1], []).append(match[2])
    return found


def command_of(unit: Path, instance: str) -> list[str]:
    return directives(unit)["ExecStart"][0].replace("%i", instance).split()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are, but for the prefix, which has to exist for systemd-analyze."""
    program = tmp_path / "bin/storestow"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in (REPOSITORY / "systemd").iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(PREFIX, str(tmp_path)))
    return tmp_path


def systemd_analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is part of systemd"
    return subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
    )


def test_there_are_units_and_property_lists() -> None:
    units = ["storestow-receiver@.service", "storestow-shim.service", "storestow-worker.service"]
    plists = ["org.storestow.receiver.modalities", "org.storestow.shim", "org.storestow.worker"]
    assert [unit.name for unit in UNITS] == units
    assert [plist.stem for plist in PLISTS] == plists


@on_linux
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    services = (unit.name.replace("@.", "@modalities.") for unit in UNITS)
    names = (*services, "storestow.target")
    verified = systemd_analyze("verify", "--man=no", *(installed / name for name in names))
    assert (verified.returncode, verified.stderr) == (0, "")


@on_linux
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_service_is_exposed_as_little_as_its_work_allows(unit: Path, installed: Path) -> None:
    said = systemd_analyze("security", "--offline=true", "--no-pager", installed / unit.name).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure, said
    assert float(exposure[1]) <= EXPOSURE_LIMIT


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_stopped_service_leaves_nothing_and_a_wrong_configuration_is_not_retried(unit: Path) -> None:
    found = directives(unit)
    assert found["KillMode"] == ["mixed"]
    assert found["Restart"] == ["on-failure"]
    assert found["RestartPreventExitStatus"] == ["64 78"]
    assert found["UMask"] == ["0027"]
    assert found["OOMPolicy"] == ["continue"]
    assert found["User"] == ["storestow"]
    assert "TCP_NODELAY=1" in found["Environment"][0].split()


def test_only_the_receiver_may_bind_a_port_below_1024() -> None:
    receiver, *others = map(directives, UNITS)
    assert receiver["AmbientCapabilities"] == receiver["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
    for other in others:
        assert "AmbientCapabilities" not in other
        assert other["CapabilityBoundingSet"] == [""]


def test_nothing_connects_to_the_worker() -> None:
    receiver, shim, worker = map(directives, UNITS)
    assert "SocketBindAllow" not in worker
    assert receiver["SocketBindAllow"] == shim["SocketBindAllow"] == ["tcp"]


@pytest.mark.parametrize("unit", [UNITS[0], UNITS[2]], ids=lambda unit: unit.name)
def test_dcmtk_may_give_up_its_privileges(unit: Path) -> None:
    assert directives(unit)["SystemCallFilter"][-1] == "setuid"


def test_launchd_and_systemd_start_the_same_commands() -> None:
    for plist, unit in zip(PLISTS, UNITS, strict=True):
        assert plistlib.loads(plist.read_bytes())["ProgramArguments"] == command_of(unit, "modalities")


@pytest.mark.parametrize("words", [["receive"], ["work"], ["serve"]])
def test_what_the_services_start_is_a_command(words: list[str]) -> None:
    assert words[0] in {command_of(unit, "modalities")[3] for unit in UNITS}
    known = subprocess.run(
        [sys.executable, "-I", "-m", "pipeline", *words, "--help"], capture_output=True, check=False
    )
    assert known.returncode == 0


@pytest.mark.parametrize("plist", PLISTS, ids=lambda plist: plist.name)
def test_a_property_list_says_all_that_launchd_needs(plist: Path) -> None:
    job = plistlib.loads(plist.read_bytes())
    assert job["Label"] == plist.stem
    assert job["EnvironmentVariables"]["TCP_NODELAY"] == "1"
    assert job["KeepAlive"] is True
    assert job["Umask"] == 0o027
    assert job["StandardOutPath"].startswith("/Library/Logs/storestow/")
    assert job["StandardErrorPath"].startswith("/Library/Logs/storestow/")


def test_the_services_are_given_the_same_time_to_stop() -> None:
    stops = [int(directives(unit)["TimeoutStopSec"][0]) for unit in UNITS]
    exits = [plistlib.loads(plist.read_bytes())["ExitTimeOut"] for plist in PLISTS]
    assert stops == exits
