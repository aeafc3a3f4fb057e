"""`storestow install` makes services of the shipped files: for this site's paths, receivers and folders."""

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import services
from pipeline.errors import Configuration, Usage
from pipeline.site.settings import Settings, load

SITE = """\
[site]
spool = "/srv/spool"

[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
to = ["disc", "elsewhere"]

[[receiver]]
name = "cdrecord"
ae_title = "CDRECORD"
port = 10104
mode = "association"

[[destination]]
name = "disc"
kind = "iso"
folder = "/srv/discs"

[[destination]]
name = "elsewhere"
kind = "null"
"""
WHERE = Path("/etc/storestow/elsewhere.toml")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "site.toml"
    file.write_text(SITE)
    return load(file)


@pytest.fixture(autouse=True)
def installed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.sys, "prefix", "/opt/elsewhere")


def units(settings: Settings) -> dict[str, str]:
    plan = services.plan(settings, WHERE, "systemd")
    return {path.name: data.decode() for path, data in plan.files.items()}


def test_no_path_of_the_shipped_units_is_left(settings: Settings) -> None:
    for name, text in units(settings).items():
        for shipped in (services.PROGRAM, services.SITE, services.SPOOL):
            assert shipped not in text.replace("/etc/storestow/environment", ""), (name, shipped)
    assert (
        "ExecStart=/opt/elsewhere/bin/storestow --site /etc/storestow/elsewhere.toml work"
        in (units(settings)["storestow-worker.service"])
    )


def test_the_worker_may_write_to_the_folders_of_the_destinations_and_nobody_else_may(settings: Settings) -> None:
    texts = units(settings)
    assert "ReadWritePaths=/srv/spool\nReadWritePaths=-/srv/discs\n" in texts.pop("storestow-worker.service")
    assert not [name for name, text in texts.items() if "/srv/discs" in text]


def test_each_receiver_is_started_and_http_only_where_it_is_wanted(settings: Settings) -> None:
    *_, last = services.plan(settings, WHERE, "systemd").commands
    assert "storestow-receiver@modalities.service storestow-receiver@cdrecord.service" in last
    assert "storestow-shim" not in last
    labels = [plistlib.loads(data)["Label"] for data in services.plan(settings, WHERE, "launchd").files.values()]
    assert sorted(labels) == [
        "org.storestow.receiver.cdrecord",
        "org.storestow.receiver.modalities",
        "org.storestow.worker",
    ]


def test_a_property_list_of_a_receiver_is_its_own_everywhere(settings: Settings) -> None:
    files = services.plan(settings, WHERE, "launchd").files
    job = plistlib.loads(files[services.DAEMONS / "org.storestow.receiver.cdrecord.plist"])
    assert job["ProgramArguments"] == [
        "/opt/elsewhere/bin/storestow", "--site", str(WHERE), "receive", "cdrecord",
    ]  # fmt: skip
    assert "modalities" not in str(job)
    assert job["StandardOutPath"].endswith("/receiver.cdrecord.log")


EXTERNAL = """
[[receiver]]
name = "theirs"
ae_title = "THEIRS"
port = 10105
mode = "external"
"""


@pytest.fixture
def with_external(tmp_path: Path) -> Settings:
    file = tmp_path / "external.toml"
    file.write_text(SITE + EXTERNAL)
    return load(file)


@pytest.fixture
def on_demand(tmp_path: Path) -> Settings:
    file = tmp_path / "on-demand.toml"
    file.write_text(SITE + EXTERNAL + 'hook = "process-study"\n')
    return load(file)


def test_an_external_storescp_is_a_service_of_its_own_that_leaves_a_worker_alone(with_external: Settings) -> None:
    text = units(with_external)["storestow-storescp-theirs.service"]
    lines = text.splitlines()
    (started,) = [line for line in lines if line.startswith("ExecStart=")]
    assert "storescp" in started
    assert started.endswith('"10105"')
    assert "\\n#p\\n" in started
    assert '\\"$$folder\\"' in started
    assert "KillMode=process" in lines
    assert "KillMode=mixed" not in lines
    *_, last = services.plan(with_external, WHERE, "systemd").commands
    assert "storestow-storescp-theirs.service" in last
    assert "receiver@theirs" not in last
    assert any(
        "receive theirs --print" in command for command in services.plan(with_external, WHERE, "systemd").commands
    )


def test_without_a_worker_that_runs_all_the_time_a_timer_starts_one(on_demand: Settings) -> None:
    texts = units(on_demand)
    assert "storestow-worker.service" not in texts
    assert (
        "ReadWritePaths=-/srv/discs\n" in texts["storestow-storescp-theirs.service"]
    )  # its hook starts the worker
    assert "OnUnitInactiveSec=5min" in texts["storestow-work.timer"]
    work = texts["storestow-work.service"].splitlines()
    assert "Type=oneshot" in work
    assert "ExecStart=/opt/elsewhere/bin/storestow --site /etc/storestow/elsewhere.toml work --until-idle" in work
    assert "WatchdogSec=60" not in work
    assert "ReadWritePaths=-/srv/discs" in work
    *_, last = services.plan(on_demand, WHERE, "systemd").commands
    assert "storestow-work.timer" in last
    assert "storestow-worker.service" not in last


def test_the_same_for_launchd(on_demand: Settings) -> None:
    files = services.plan(on_demand, WHERE, "launchd").files
    jobs = {str(job["Label"]): job for job in map(plistlib.loads, files.values())}
    assert "org.storestow.worker" not in jobs
    assert jobs["org.storestow.work"]["StartInterval"] == 300
    assert "KeepAlive" not in jobs["org.storestow.work"]
    assert jobs["org.storestow.work"]["ProgramArguments"][-2:] == ["work", "--until-idle"]
    storescp = jobs["org.storestow.storescp.theirs"]
    assert storescp["AbandonProcessGroup"] is True
    assert storescp["ProgramArguments"][-1] == "10105"
    assert "process-study /opt/elsewhere/bin/storestow" in storescp["ProgramArguments"][-2]


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux only")
@pytest.mark.parametrize("site", ["with_external", "on_demand"])
def test_systemd_finds_nothing_wrong_with_what_is_made_of_the_shipped_units(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    program = tmp_path / "bin/storestow"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    settings = request.getfixturevalue(site)
    monkeypatch.setattr(services.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(services, "_UNSEEN", ())
    plan = services.plan(settings, WHERE, "systemd")
    written = services.write({tmp_path / path.name: data for path, data in plan.files.items()}, replace=False)
    made = [path for path in written if path.name.startswith(("storestow-storescp-", "storestow-work"))]
    assert made
    analyze = shutil.which("systemd-analyze")
    assert analyze
    environment = {**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    words = [analyze, "verify", "--man=no", *map(str, made)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux only")
def test_systemd_finds_nothing_wrong_with_what_is_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/storestow"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(services.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(services, "_UNSEEN", ())
    plan = services.plan(settings, WHERE, "systemd")
    written = services.write({tmp_path / path.name: data for path, data in plan.files.items()}, replace=False)
    names = [str(path).replace("@.", "@cdrecord.") for path in written if path.suffix == ".service"]
    analyze = shutil.which("systemd-analyze")
    assert analyze
    environment = {**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    words = [analyze, "verify", "--man=no", *names]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_somebody_changed_is_not_overwritten_unless_told_so(tmp_path: Path) -> None:
    files = {tmp_path / "one": b"1", tmp_path / "two": b"2"}
    assert services.write(files, replace=False) == list(files)
    assert services.write(files, replace=False) == []
    (tmp_path / "two").write_bytes(b"by hand")
    with pytest.raises(Usage, match="two: there already"):
        services.write({**files, tmp_path / "three": b"3"}, replace=False)
    assert not (tmp_path / "three").exists()
    assert services.write(files, replace=True) == [tmp_path / "two"]
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o644


def test_a_path_the_services_would_not_see_or_misread_is_refused(settings: Settings) -> None:
    for wrong, why in (("/home/me/site.toml", "home"), ("/tmp/site.toml", "temporary"), ("/a b/%i.toml", "A-Z")):
        with pytest.raises(Configuration, match=why):
            services.plan(settings, Path(wrong), "systemd")


def test_a_manager_nobody_knows_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(Usage, match="systemd or launchd"):
        services.manager_named("upstart")
