"""What `storestow disc` takes of the folders it is given: every object, or nothing with a word why."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.studies.discs import a_disc, an_object

from pipeline.disc.errors import UnfitViewer
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.make import viewer as viewer_module
from pipeline.disc.make.folders import files_of
from pipeline.errors import Transient, Usage

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def taken(*paths: Path) -> list[str]:
    return [path.name for path in files_of(paths)]


def refused(*paths: Path) -> str:
    with pytest.raises(Usage) as why:
        files_of(paths)
    return str(why.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "s1").mkdir(parents=True)
    (folder / "s1" / "b").write_bytes(b"b")
    (folder / "a").write_bytes(b"a")
    return folder


def test_everything_below_a_folder_is_taken_in_order_of_name_hidden_files_too(folder):
    (folder / ".hidden.dcm").write_bytes(b"x")
    (folder / "s1" / ".x").mkdir()
    (folder / "s1" / ".x" / "c").write_bytes(b"c")
    assert taken(folder) == [".hidden.dcm", "a", "c", "b"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path):
    for name in (".hidden.dcm", ".DS_Store", "._odd"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
        assert taken(tmp_path / name) == [name]


def test_linked_folders_and_files_are_followed_once_and_never_in_circles(folder, tmp_path):
    elsewhere = tmp_path / "else"
    elsewhere.mkdir()
    (elsewhere / "far").write_bytes(b"far")
    (folder / "linked").symlink_to("../else")
    (folder / "linked_again").symlink_to(elsewhere)
    (folder / "s1" / "up").symlink_to("..")
    (folder / "s1" / "z").symlink_to(elsewhere / "far")
    assert taken(folder) == ["a", "far", "b", "z"]


def test_rubbish_and_our_own_hidden_folders_are_passed_over_but_a_file_of_such_a_name_is_not(folder):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"x")
    (folder / "._a").write_bytes(b"\x00\x05\x16\x07 of macOS")
    (folder / "._b").write_bytes(b"no AppleDouble")
    for name in (".storestow", ".storestow-disc-abc"):
        (folder / name).mkdir()
        (folder / name / "image").write_bytes(b"x")
    (folder / "s1" / ".storestow").write_bytes(b"x")
    assert taken(folder) == ["._b", "a", ".storestow", "b"]


def test_a_link_that_leads_nowhere_is_named_and_nothing_is_taken(folder):
    (folder / "s1" / "gone.dcm").symlink_to("/nowhere/x.dcm")
    why = refused(folder)
    assert "s1/gone.dcm leads nowhere" in why
    assert "no disc was made" in why
    assert "Mend or remove it" in why


def test_a_link_to_itself_is_an_error_as_well(folder):
    (folder / "ring").symlink_to("ring")
    assert "ring leads nowhere" in refused(folder)


def test_a_link_to_a_folder_above_does_not_take_in_what_nobody_named(folder, tmp_path):
    (tmp_path / "of another patient").write_bytes(b"x")
    (folder / "up").symlink_to("..")
    assert "up leads to a folder above the one that was named" in refused(folder)


def test_a_pipe_and_a_socket_are_an_error_and_nobody_waits_for_them(folder, tmp_path, monkeypatch):
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    why = refused(folder)
    assert "in/pipe is no file, but a pipe" in why
    assert "in/socket is no file" in why
    assert "is no file" in refused(folder / "pipe")
    assert "is no file" in refused(Path("/dev/null"))


def test_what_is_not_there_is_said_not_to_be_there(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere")


def test_of_many_obstacles_the_first_are_named_and_the_others_counted(folder):
    for number in range(8):
        (folder / f"gone{number}").symlink_to("/nowhere/x")
    why = refused(folder)
    assert why.count("leads nowhere") == 5
    assert "and 3 more" in why


@pytest.mark.programs
@pytest.mark.parametrize("closed", ["s1", "s1/b"])
def test_what_may_not_be_read_is_an_error_that_names_it(closed, tmp_path):
    """As root everything may be read: its capabilities are taken away."""
    folder = tmp_path / "in"
    an_object(folder, "a")
    an_object(folder / "s1", "b")
    (folder / closed).chmod(0)
    no_root = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    if no_root and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    try:
        made = subprocess.run(
            [*no_root, sys.executable, "-W", "ignore", "-m", "pipeline", "disc", "in", "-o", "A1.iso"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (folder / closed).chmod(0o700)
    assert made.returncode == 64
    assert f"in/{closed} cannot be read: Permission denied" in made.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in"]


# --- the viewer's folder, and what xorriso makes of its names ----------------------------------------------


def a_viewer(folder: Path, *names: str) -> Path:
    for name in ("start.exe", *names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.mark.programs
@pytest.mark.parametrize("at", ["VIEWER", "root"])
def test_names_that_are_let_pass_are_on_the_disc_as_they_are(at, tmp_path):
    names = (
        *(
            "a=b.dll",
            " x",
            "DICOMDIR.EXE",
            "Readme.text",
            "IHE_PDI.x/DICOMDIR",
            "ein é.txt",
            "#'%$,.txt",
            "n" * 64,
        ),
        *("library_one.dll", "library_two.dll", "ABCDEFGH.TXT", "a/b.c.d/.hidden", "x..y"),
        "/".join(("d" * 60, "e" * 49, "f")),
    )
    disc = a_disc(tmp_path, an_object(tmp_path / "in"), viewer=a_viewer(tmp_path / "v", *names), viewer_at=at)
    contents = IsoContents(disc.path, by_long_names=True)
    try:
        prefix = "VIEWER/" if at == "VIEWER" else ""
        assert {f"{prefix}{name}" for name in names} < contents.files.keys()
    finally:
        contents.close()


@pytest.mark.programs
@pytest.mark.parametrize(
    "names",
    [
        *(["INDEX.HTML"], ["README.TXT1"], ["DicomDirViewer"], ["IHE PDI/x"], ["README.TXT;1"]),
        *(["a*b"], ["a;b"], ["a\\b"], ["name."], ["\U0001f600"], ["n" * 65], ["d" * 60 + "/" + "e" * 59]),
        ["ABCDEFGH.TXT", "ABCDEFGHI.TXT"],
    ],
    ids=lambda names: names[0][:16],
)
def test_names_that_are_refused_would_have_cost_a_disc(names, tmp_path, monkeypatch):
    one, folder = an_object(tmp_path / "in"), a_viewer(tmp_path / "v", *names)
    with pytest.raises(UnfitViewer):
        a_disc(tmp_path, one, viewer=folder, viewer_at="root")
    monkeypatch.setattr(viewer_module, "check_names", lambda *_: None)
    with pytest.raises(Transient):
        a_disc(tmp_path, one, viewer=folder, viewer_at="root")
