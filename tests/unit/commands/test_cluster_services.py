"""The units of a site on two machines: the cluster manager alone starts them, where the disk is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.commands import services
from pipeline.commands.cluster_services import for_cluster
from pipeline.commands.services import ServicePlan
from pipeline.errors import Usage
from pipeline.site.settings import load

SITE = """\
[site]
spool = "/srv/storestow/spool"
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
to = ["discs"]
[[destination]]
name = "discs"
kind = "iso"
folder = "/srv/storestow/discs"
[shim]
port = 8090
"""
DISK = Path("/srv/storestow")


def plan_of(folder: Path, text: str = SITE, disk: Path = DISK) -> ServicePlan:
    file = folder / "site.toml"
    file.write_text(text)
    settings = load(file)
    return for_cluster(services.plan(settings, Path("/etc/storestow/site.toml"), "systemd"), settings, disk)


@pytest.fixture(autouse=True)
def installed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/storestow"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(services.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(services, "_UNSEEN", ())


def test_no_unit_starts_by_itself_nor_without_the_disk_and_its_end_is_bounded(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    units = {
        path.name: data.decode().splitlines() for path, data in plan.files.items() if path.suffix == ".service"
    }
    assert units.keys() == {"storestow-worker.service", "storestow-receiver@.service", "storestow-shim.service"}
    for name, lines in units.items():
        assert "AssertPathIsMountPoint=/srv/storestow" in lines, name
        assert "TimeoutStopSec=60" in lines, name
        assert [line for line in lines if line.startswith("Restart")] == ["Restart=no"], name
        assert not {"[Install]", "WantedBy=storestow.target", "PartOf=storestow.target"} & set(lines), name
    assert not [path for path in plan.files if path.suffix in {".target", ".timer"} or "tmpfiles" in str(path)]


def test_both_machines_get_the_same_user_and_a_folder_nobody_can_write_to(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert b"u storestow 10104 " in plan.files[services.SYSUSERS]
    assert "ln -sf /dev/null /etc/tmpfiles.d/storestow.conf" in plan.commands


@pytest.mark.parametrize("is_mounted", [True, False])
def test_the_root_of_a_mounted_disk_stays_open_and_the_folder_below_it_is_closed(
    tmp_path: Path, *, is_mounted: bool
) -> None:
    (command,) = [command for command in plan_of(tmp_path).commands if "install -d" in command]
    disk, programs = tmp_path / "disk", tmp_path / "programs"
    programs.mkdir()
    disk.mkdir(mode=0o755)
    said = programs / "mountpoint"
    said.write_text(f'#!/bin/sh\n[ "$*" = "-q {disk}" ] || exit 99\nexit {int(not is_mounted)}\n')
    said.chmod(0o755)
    command = command.replace(str(DISK), str(disk)).replace("-o root -g root ", "")  # so that nobody must be root
    subprocess.run(
        ["/bin/sh", "-c", command], check=True, env={"PATH": f"{programs}:{os.environ['PATH']}"}, timeout=20
    )
    assert disk.stat().st_mode & 0o777 == (0o755 if is_mounted else 0)
    disk.chmod(0o755)


def test_resources_are_made_in_the_order_in_which_they_start_and_wait_longer_than_a_stop_takes(
    tmp_path: Path,
) -> None:
    resources = [command for command in plan_of(tmp_path).commands if command.startswith("pcs")]
    names = [command.split()[4] for command in resources]
    assert names == [
        "systemd:storestow-worker",
        "systemd:storestow-receiver@modalities",
        "systemd:storestow-shim",
    ]
    assert all("op stop timeout=90s" in command and command.endswith("--group storestow") for command in resources)


def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    written = services.write({tmp_path / path.name: data for path, data in plan.files.items()}, replace=False)
    names = [str(path).replace("@.", "@modalities.") for path in written if path.suffix == ".service"]
    analyze = shutil.which("systemd-analyze")
    assert analyze
    done = subprocess.run(
        [analyze, "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_spool_beside_the_disk_and_a_worker_of_a_timer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="is not below it"):
        plan_of(tmp_path, disk=Path("/srv/other"))
    external = 'mode = "external"\nhook = "process-study"\nto ='
    with pytest.raises(Usage, match="timer"):
        plan_of(tmp_path, SITE.replace("to =", external, 1))
