"""The wheel, installed in a fresh environment, owns its names, brings its hook along and receives a study."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import psutil
import pydicom
import pytest
import requests
from support.machine.dicom_programs import dcmsend, free_port, running, wait_until
from support.sites.beating import beating

from pipeline.ledger import open_ledger
from pipeline.spool.spool import Spool

SHIM = """\
[site]
spool = "{folder}/spool"

[[receiver]]
name = "orders"
ae_title = "CDRECORD"
port = {port}
coerce = false

[[destination]]
name = "disc"
kind = "iso"
folder = "{folder}/discs"

[pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 11113
calling_ae_title = "CDRECORD"
receiver = "orders"

[shim]
port = {http}
download = "disc"
"""

REPOSITORY = Path(__file__).resolve().parents[2]

SITE = """\
[site]
spool = "{folder}/spool"

[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = {port}
quiet_seconds = 1
to = ["copies"]

[[destination]]
name = "copies"
kind = "folder"
folder = "{folder}/copies"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which borrows the packages it depends on from ours."""
    folder = tmp_path_factory.mktemp("wheel")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(hatchling, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = folder.glob("storestow-*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    [packages] = (venv / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])  # its own .pth files are not read
    return venv


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A working directory with a package of the same name."""
    (tmp_path / "pipeline").mkdir()
    for name in ("__init__.py", "__main__.py", "cli.py"):
        (tmp_path / "pipeline" / name).write_text("raise SystemExit('a stranger')\n")
    return tmp_path


def test_the_name_pipeline_belongs_to_storestow_alone(environment: Path) -> None:
    asked = "import importlib.metadata as m; print(*set(m.packages_distributions()['pipeline']))"
    owner = subprocess.run(
        [environment / "bin/python", "-I", "-c", asked], capture_output=True, text=True, check=True
    )
    assert owner.stdout.split() == ["storestow"]


@pytest.mark.parametrize("command", [["python", "-I", "-m", "pipeline"], ["storestow"]])
def test_a_strangers_package_in_the_working_directory_does_not_shadow_it(
    environment: Path, stranger: Path, command: list[str]
) -> None:
    argv = [environment / "bin" / command[0], *command[1:], "--help"]
    done = subprocess.run(argv, cwd=stranger, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "receive" in done.stdout


def test_the_wheel_brings_hook_and_mapping_and_no_other_package(environment: Path) -> None:
    shipped = environment / "share/storestow"
    for name in ("hooks/study-complete", "hooks/README.md", "institution_mapping.json"):
        source = REPOSITORY / name
        assert (shipped / name).read_bytes() == source.read_bytes(), name
    [packages] = (environment / "lib").glob("python*/site-packages")
    assert {path.name for path in packages.iterdir() if path.is_dir() and "dist-info" not in path.name} == {
        "pipeline"
    }


def test_the_wheel_brings_every_page_word_and_template_that_stands_beside_the_code(environment: Path) -> None:
    [package] = (environment / "lib").glob("python*/site-packages/pipeline")
    beside = {
        file.relative_to(REPOSITORY)
        for file in (REPOSITORY / "pipeline").rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    }
    rooms = {str(path.parent) for path in beside}
    assert {"pipeline/web/templates", "pipeline/web/assets", "pipeline/languages"} <= rooms
    assert "pipeline/disc/pages/templates" in rooms
    for file in beside:
        assert (package.parent / file).read_bytes() == (REPOSITORY / file).read_bytes(), file


def test_the_installed_wheel_serves_its_pages_in_both_languages(environment: Path, tmp_path: Path) -> None:
    http = free_port()
    (tmp_path / "discs").mkdir()
    site = tmp_path / "site.toml"
    site.write_text(SHIM.format(folder=tmp_path, port=free_port(), http=http))
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    open_ledger(spool.root)[0].close()  # which the worker makes
    argv = [environment / "bin/storestow", "--site", site, "serve"]
    with beating(spool.root), running(argv, log=tmp_path / "log.txt", port=http, cwd=tmp_path):
        root = f"http://127.0.0.1:{http}"
        for language, title in (("en", 'lang="en"'), ("es", 'lang="es"')):
            headers = {"Accept": "text/html", "Accept-Language": language}
            for path in ("/", f"/mkiso.php?accession_number=A-{language}", "/mkiso.php?accession_number=*"):
                page = requests.get(root + path, headers=headers, timeout=30)
                assert page.headers["Content-Type"].startswith("text/html"), path
                assert title in page.text, path
                assert ("?order=" in page.url) is path.endswith(language), path
        for name in ("page.css", "page.js", "icon.svg"):
            source = REPOSITORY / "pipeline/web/assets" / name
            assert requests.get(f"{root}/?asset={name}", timeout=30).content == source.read_bytes()


@pytest.mark.programs
def test_the_installed_wheel_makes_a_disc_with_its_pages(environment: Path, tmp_path: Path) -> None:
    source = Path(pydicom.__file__).parent / "data/test_files/CT_small.dcm"
    made = tmp_path / "made.zip"
    argv = [environment / "bin/storestow", "disc", source, "-o", made]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    with zipfile.ZipFile(made) as disc:
        assert {"DICOMDIR", "README.TXT", "INDEX.HTM"} <= {Path(name).name for name in disc.namelist()}


@pytest.mark.programs
def test_a_study_is_received_and_delivered_through_the_installed_wheel(environment: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "copies").mkdir()
    site = tmp_path / "site.toml"
    site.write_text(SITE.format(folder=tmp_path, port=port))
    storestow = [environment / "bin/python", "-I", "-m", "pipeline", "--site", site]
    source = Path(pydicom.__file__).parent / "data/test_files/CT_small.dcm"
    with running([*storestow, "up"], log=tmp_path / "log.txt", port=port, cwd=tmp_path) as up:
        [storescp] = [
            process
            for process in psutil.Process(up.pid).children(recursive=True)
            if Path(process.cmdline()[0]).name == "storescp"
        ]
        assert str(environment / "share/storestow/hooks/study-complete") in " ".join(storescp.cmdline())
        assert dcmsend(port, source).acknowledged == 1

        def settled() -> bool:
            asked = subprocess.run([*storestow, "status", "--json"], capture_output=True, text=True, check=False)
            if asked.returncode:  # until the worker has made the ledger
                return False
            return bool(json.loads(asked.stdout)["arrivals"]["settled"] == 1)

        wait_until(settled, seconds=60, what=f"see {tmp_path / 'log.txt'}")
    [delivered] = [path for path in (tmp_path / "copies").rglob("*") if path.is_file()]
    assert pydicom.dcmread(delivered).SOPInstanceUID == pydicom.dcmread(source).SOPInstanceUID
