"""`make install` installs what is missing and nothing else, starts no server, and is quick when all is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = (
    "sh",
    "cat",
    "cksum",
    "chmod",
    "cp",
    "dirname",
    "env",
    "grep",
    "ln",
    "mkdir",
    "mktemp",
    "rm",
    "sed",
    "sort",
    "tee",
)
POLICY = "/usr/sbin/policy-rc.d"


def executable(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with bin/, the only PATH there is, the scripts in machine/, and the policy file in it."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "machine").mkdir()
    for script in (REPOSITORY / "machine").iterdir():
        text = script.read_text().replace(POLICY, str(tmp_path / "policy-rc.d"))
        (tmp_path / "machine" / script.name).write_text(text)
        (tmp_path / "machine" / script.name).chmod(0o755)
    return tmp_path


def run(machine: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [machine / "machine" / script, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=machine,
        env={"PATH": str(machine / "bin"), **environment},
    )


# --- Debian's packages -----------------------------------------------------------------------------------


@pytest.fixture
def debian(machine: Path) -> Path:
    """A Debian whose apt-get installs by writing a file, and notes whether services may start meanwhile."""
    executable(
        machine / "bin/dpkg-query",
        f"""case "$1" in
        -L) echo /lib/systemd/system/orthanc.service; echo /etc/init.d/none ;;
        *) for name; do :; done; [ -e {machine}/$name ] && printf installed ;;
        esac""",
    )
    executable(
        machine / "bin/apt-get",
        f"""echo "$@" >>{machine}/apt-get.log
        case "$*" in *update*) exit 0 ;; esac
        {machine}/policy-rc.d orthanc start; echo "policy $?" >>{machine}/apt-get.log
        [ ! -e {machine}/broken ] || exit 100
        for name; do case "$name" in orthanc*) : >{machine}/$name ;; esac; done""",
    )
    executable(machine / "bin/id", "echo 0")
    executable(machine / "bin/systemctl", f'echo "$@" >>{machine}/systemctl.log')
    return machine


def test_what_is_installed_is_not_asked_of_the_network(debian: Path) -> None:
    (debian / "orthanc").touch()
    done = run(debian, "packages.sh", "orthanc")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (debian / "apt-get.log").exists()


def test_only_the_missing_package_is_installed_with_its_server_denied_and_left_disabled(debian: Path) -> None:
    (debian / "dcmtk").touch()
    done = run(debian, "packages.sh", "dcmtk", "orthanc")
    assert done.returncode == 0, done.stderr
    asked = (debian / "apt-get.log").read_text()
    assert asked.splitlines()[1].endswith("install orthanc")
    assert "policy 101" in asked
    assert not list(debian.glob("policy-rc.d*"))
    assert (debian / "systemctl.log").read_text().splitlines()[0] == "--quiet disable none.service"
    assert "--quiet disable orthanc.service" in (debian / "systemctl.log").read_text()


def test_a_failed_installation_says_so_and_lets_services_start_again(debian: Path) -> None:
    (debian / "broken").touch()
    done = run(debian, "packages.sh", "orthanc")
    assert done.returncode == 69
    assert "orthanc" in done.stderr
    assert not list(debian.glob("policy-rc.d*"))


def test_an_owners_own_policy_stays_as_it_is(debian: Path) -> None:
    executable(debian / "policy-rc.d", "exit 104")
    before = (debian / "policy-rc.d").read_text()
    done = run(debian, "packages.sh", "orthanc")
    assert done.returncode == 0, done.stderr
    assert "policy 104" in (debian / "apt-get.log").read_text()
    assert (debian / "policy-rc.d").read_text() == before


def test_a_policy_left_by_a_killed_installation_does_not_stay(debian: Path) -> None:
    mark = re.search(r'^MARK="(.*)"$', (debian / "machine/packages.sh").read_text(), re.MULTILINE)
    assert mark
    executable(debian / "policy-rc.d", f"# {mark[1]}\nexit 101\n")
    assert run(debian, "packages.sh", "orthanc").returncode == 0
    assert not list(debian.glob("policy-rc.d*"))


def test_without_root_and_sudo_the_command_to_run_is_said(debian: Path) -> None:
    executable(debian / "bin/id", "echo 1000")
    done = run(debian, "packages.sh", "orthanc")
    assert done.returncode == 69
    assert "apt-get install orthanc" in done.stderr
    assert not (debian / "apt-get.log").exists()


def test_where_there_is_no_apt_the_missing_programs_are_named_and_installation_goes_on(machine: Path) -> None:
    done = run(machine, "programs.sh")
    assert done.returncode == 0
    assert "brew install dcmtk" in done.stderr


# --- the virtual environment -----------------------------------------------------------------------------

PYTHON = """case "$*" in
*"sys.version_info <"*) exit 0 ;;
*"sys.version_info[:2]"*) echo 3.12 ;;
*"sys.executable"*) echo /somewhere/python ;;
*"sys.prefix"*) cat "$(dirname "$0")/../prefix" ;;
*"import ensurepip"*) exit 0 ;;
"-m venv --clear .venv")
    mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "$PWD/.venv" >.venv/prefix; echo venv >>LOG ;;
"-m pip --version") exit 0 ;;
*) echo "$@" >>LOG ;;
esac"""


@pytest.fixture
def project(machine: Path) -> Path:
    for name in ("requirements-dev.lock", "pyproject.toml"):
        (machine / name).write_text("first\n")
    executable(machine / "bin/python3.12", PYTHON.replace("LOG", str(machine / "python.log")))
    return machine


def asked_of_python(project: Path) -> list[str]:
    log = project / "python.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_the_environment_is_made_once_with_hashes_and_then_left_alone(project: Path) -> None:
    first = run(project, "environment.sh")
    assert first.returncode == 0, first.stderr
    venv, packages, storestow = asked_of_python(project)
    assert venv == "venv"
    assert "--require-hashes --requirement requirements-dev.lock" in packages
    assert "--no-deps --no-build-isolation --editable ." in storestow
    second = run(project, "environment.sh")
    assert (second.returncode, second.stdout, asked_of_python(project)) == (0, "", [])


@pytest.mark.parametrize("name", ["requirements-dev.lock", "pyproject.toml"])
def test_a_changed_requirement_is_installed_into_the_environment_there_is(project: Path, name: str) -> None:
    run(project, "environment.sh")
    asked_of_python(project)
    (project / name).write_text("second\n")
    assert run(project, "environment.sh").returncode == 0
    assert [line.split()[0] for line in asked_of_python(project)] == ["-m", "-m"]


def test_an_interrupted_installation_is_taken_up_again(project: Path) -> None:
    run(project, "environment.sh")
    asked_of_python(project)
    (project / ".venv/storestow-stamp").unlink()
    assert run(project, "environment.sh").returncode == 0
    assert len(asked_of_python(project)) == 2


def test_a_moved_folder_gets_a_new_environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run(project, "environment.sh")
    asked_of_python(project)
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    shutil.copytree(project, moved, symlinks=True)
    assert run(moved, "environment.sh").returncode == 0
    assert asked_of_python(project)[0] == "venv"


def test_without_a_python_new_enough_the_error_says_what_to_install(project: Path) -> None:
    executable(project / "bin/python3.12", "exit 1")
    done = run(project, "environment.sh")
    assert done.returncode == 69
    assert "Python 3.11 or newer" in done.stderr
