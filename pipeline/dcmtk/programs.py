"""Find the external programs, and check that each is the right program.

A Python package may put a different `storescp` into a virtual environment. A program is therefore taken from the
configuration or from the system, and never from a Python environment.
"""

import functools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.config.program_tables import ProgramsTable
from pipeline.dcmtk.processes import run
from pipeline.errors import Configuration, Transient

# launchd's PATH lacks the folders of Homebrew.
USUAL_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin")
OLDEST = (3, 6, 7)  # Our measurements start with this version.


class ProgramPackage(NamedTuple):
    """The package of a program, and how its answer to --version begins."""

    debian: str
    homebrew: str
    version_line: str


DCMTK = ProgramPackage("dcmtk", "dcmtk", r"\$dcmtk: {name} v(\d+)\.(\d+)\.(\d+)")
PACKAGES = {
    **dict.fromkeys(("storescp", "findscu", "movescu", "getscu", "echoscu"), DCMTK),
    "xorriso": ProgramPackage("xorriso", "xorriso", r"(?s).*?{name} (\d+)\.(\d+)\.(\d+)"),
}


class ProgramVersion(NamedTuple):
    """A program's version; `vendor` is the host type of --version (`Debian` there)."""

    major: int
    minor: int
    patch: int
    vendor: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def program(programs: ProgramsTable, name: str) -> Path:
    """Return the absolute path of the program `name` of [programs].

    Raises Configuration, naming the key and the package, if it is missing or is another program.
    """
    configured: str = getattr(programs, name)
    path = _configured(name, configured) if configured else _of_the_system(name)
    version(path, name)
    return path


def _configured(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or not os.access(path, os.X_OK) or path.is_dir():
        raise Configuration(f"[programs] {name} = {text!r} must be the absolute path of a program")
    return path


def _of_the_system(name: str) -> Path:
    for folder in _system_folders():
        path = Path(folder) / name
        if os.access(path, os.X_OK) and path.is_file() and not _is_script(path):
            return path
    package = PACKAGES[name]
    raise Configuration(
        f"{name} is not installed: apt-get install {package.debian} (Debian, Ubuntu), "
        f"brew install {package.homebrew} (macOS), or name it in [programs] {name}"
    )


def _system_folders() -> list[str]:
    ours = {os.path.realpath(Path(prefix) / "bin") for prefix in (sys.prefix, sys.exec_prefix)}
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *USUAL_FOLDERS]
    return [f for f in dict.fromkeys(folders) if f.startswith("/") and os.path.realpath(f) not in ours]


def _is_script(path: Path) -> bool:
    """Say whether this is a script, as Python packages install them."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def environment(programs: ProgramsTable) -> dict[str, str]:
    """Return the whole environment of a child process: a list of allowed variables."""
    allowed = {
        "PATH": os.pathsep.join(_system_folders()),
        "LANG": "C.UTF-8",
        # Nagle's algorithm waits for delayed acknowledgements: 11 small objects a second instead of 1970
        "TCP_NODELAY": "1",
    }
    if "TZ" in os.environ:
        allowed["TZ"] = os.environ["TZ"]
    if programs.dictionary:
        allowed["DCMDICTPATH"] = programs.dictionary
    return allowed


@functools.cache
def version(path: Path, name: str) -> ProgramVersion:
    """Return the version of the program at `path`; raises Configuration if it is not `name` of its package."""
    pattern = PACKAGES[name].version_line.format(name=name)
    try:
        answer = run((str(path), "--version"), environment(ProgramsTable()), timeout_seconds=30).output
    except Transient as error:
        raise Configuration(f"{path} does not run: {error}; name another in [programs] {name}") from error
    found = re.match(pattern, answer)
    if not found:
        raise Configuration(f"{path} is not {name} of {PACKAGES[name].debian}; name that one in [programs] {name}")
    vendor = re.search(r"^Host type: (.*)$", answer, re.MULTILINE)
    return ProgramVersion(int(found[1]), int(found[2]), int(found[3]), vendor[1].strip() if vendor else "")


def shortcomings(storescp: ProgramVersion) -> Iterator[str]:
    """Yield a sentence for each fault of this storescp version that an operator should know."""
    if storescp[:3] < OLDEST:
        yield f"storescp {storescp} is older than 3.6.7, the oldest that has been tried: install a newer dcmtk"
