"""The Debian package holds what runs and nothing else, in its places, and says whom the spool belongs to."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.site.settings import parsed

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_TO_RUN = re.compile(r"^(pytest|mypy|ruff|hypothesis|pynetdicom|hatchling|aiosmtpd|pip|setuptools)(-|$)")

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="made on Debian and Ubuntu only"),
]


def build(folder: Path, **environment: str) -> Path:
    done = subprocess.run(
        [REPOSITORY / "machine/deb.sh"],
        env={**os.environ, "OUTPUT": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [package] = folder.glob("*.deb")
    return package


def unpacked(package: Path, folder: Path) -> Path:
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked package of the program alone, without the packages it needs, which take minutes to fetch."""
    folder = tmp_path_factory.mktemp("deb")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(hatchling, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    nothing = folder / "empty.lock"
    nothing.touch()
    return unpacked(build(folder / "made", LOCK=str(nothing), WHEEL=str(wheel)), folder / "root")


def test_program_services_user_sample_and_manual_are_in_their_places(root):
    for place in (
        "opt/storestow/bin/storestow",
        "opt/storestow/share/storestow/hooks/study-complete",
        "usr/lib/systemd/system/storestow-worker.service",
        "usr/lib/systemd/system/storestow-receiver@.service",
        "usr/lib/systemd/system/storestow-shim.service",
        "usr/lib/systemd/system/storestow.target",
        "usr/lib/sysusers.d/storestow.conf",
        "usr/lib/tmpfiles.d/storestow.conf",
        "usr/share/doc/storestow/copyright",
        "usr/share/doc/storestow/manual/first-study.md",
    ):
        assert (root / place).is_file(), place
    assert (root / "usr/bin/storestow").readlink() == Path("/opt/storestow/bin/storestow")
    assert {path.name for path in root.iterdir()} == {"DEBIAN", "etc", "opt", "usr"}


def test_the_sample_is_a_configuration_and_no_site_of_an_administrator_is_overwritten(root):
    [sample] = (root / "etc/storestow").iterdir()
    assert sample.name == "site.toml.sample"
    site = parsed(sample.read_text(), sample)
    assert [receiver.name for receiver in site.receiver] == ["modalities", "orders"]


def test_nothing_remembers_where_it_was_built_and_nothing_is_writable_for_others(root):
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert b"/tmp/tmp." not in file.read_bytes(), file  # what mktemp makes
            assert not file.stat().st_mode & 0o022, file
    assert (root / "opt/storestow/bin/storestow").read_text().startswith("#!/opt/storestow/bin/python")
    assert sorted(it.name for it in (root / "opt/storestow/bin").iterdir() if not it.is_symlink()) == ["storestow"]


def test_its_scripts_are_shell_make_the_user_and_delete_no_study(root):
    for name in ("postinst", "prerm", "postrm"):
        script = root / "DEBIAN" / name
        subprocess.run(["sh", "-n", script], check=True)
        assert os.access(script, os.X_OK)
        assert not re.search(r"rm -r[^\n]*/(var|etc)\b", script.read_text())
    assert "systemd-sysusers" in (root / "DEBIAN/postinst").read_text()
    control = (root / "DEBIAN/control").read_text()
    assert re.search(r"^Depends: python3 \(>= 3\.(\d+)\), python3 \(<< 3\.\d+\), dcmtk", control, re.MULTILINE)


def test_an_upgrade_restarts_nothing_and_says_what_to_do(root, tmp_path):
    """A restart cuts open associations, and the new worker changes the ledger at once."""
    script = root / "DEBIAN/postinst"
    assert re.findall(r"^\s*systemctl .*", script.read_text(), re.MULTILINE) == ["        systemctl daemon-reload"]
    for name in ("systemctl", "systemd-sysusers", "install"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": str(tmp_path)}
    first, upgrade = (
        subprocess.run(
            ["/bin/sh", script, "configure", *before], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for before in ([], ["0.0.9"])
    )
    assert "migrate" not in first
    steps = ("systemctl stop storestow-shim storestow-worker", "storestow check", "migrate --dry-run")
    last = ("systemctl start storestow-worker storestow-shim", "systemctl restart storestow-receiver@")
    places = [upgrade.index(step) for step in (*steps, *last)]
    assert places == sorted(places)


def test_the_script_stays_short():
    assert len((REPOSITORY / "machine/deb.sh").read_text().splitlines()) < 200


@pytest.mark.long
def test_the_whole_package_runs_from_its_own_packages_and_brings_no_tool_of_tests(tmp_path):
    root = unpacked(build(tmp_path / "made"), tmp_path / "root")
    python = root / "opt/storestow/bin/python"
    said = subprocess.run([python, "-I", "-m", "pipeline", "--help"], capture_output=True, text=True, check=True)
    assert "receive" in said.stdout
    [packages] = (root / "opt/storestow/lib").glob("python*/site-packages")
    assert not [path.name for path in packages.iterdir() if NOT_TO_RUN.match(path.name.lower())]
    assert sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) < 300 << 20


@pytest.mark.long
def test_a_fresh_environment_holds_what_runs_and_no_tool_of_tests(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", REPOSITORY / "requirements.lock"], check=True)
    subprocess.run([*pip, "--no-deps", REPOSITORY], check=True)
    said = subprocess.run([tmp_path / "venv/bin/storestow", "--help"], capture_output=True, text=True, check=True)
    assert "receive" in said.stdout
    [packages] = (tmp_path / "venv/lib").glob("python*/site-packages")
    shipped = {"pip", "setuptools"}  # by Python itself
    tools = {path.name.split("-")[0] for path in packages.iterdir() if NOT_TO_RUN.match(path.name.lower())}
    assert tools <= shipped
