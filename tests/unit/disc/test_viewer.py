"""The viewer's folder: what cannot be on a disc is found before anything is read, with the file and the remedy."""

import contextlib
import os
import socket
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.data import get_testdata_file
from support.studies.discs import an_object

from pipeline.destinations import from_table
from pipeline.disc.errors import UnfitViewer
from pipeline.disc.make.viewer import HEAD, check_names, short_form, viewer_files, what_dicom
from pipeline.disc.make.writing import graft_points


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "viewer"
    (folder / "lib").mkdir(parents=True)
    (folder / "start.exe").write_text("MZ")
    (folder / "lib" / "a.dll").write_text("x")
    return folder


def refused(folder: Path, at: str = "VIEWER") -> str:
    with pytest.raises(UnfitViewer) as why:
        viewer_files(folder, at)  # type: ignore[arg-type]
    return str(why.value)


def fault(*paths: str, taken: Sequence[str] = ()) -> str:
    with pytest.raises(UnfitViewer) as why:
        check_names([tuple(path.split("/")) for path in paths], taken)
    return str(why.value)


@pytest.mark.parametrize(
    ("name", "short"),  # as xorriso made them
    [
        ("Readme.text", "README.TEX"),
        ("DicomDirViewer", "DICOMDIR"),
        ("DICOMDIRX.EXE", "DICOMDIR.EXE"),
        ("IHE PDI", "IHE_PDI"),
        ("IHE_PDI.x", "IHE_PDI.X"),
        ("Index.htm~", "INDEX.HTM"),
        (".htaccess", "_HTACCES"),
        ("..x.txt", "__X.TXT"),
        ("é.txt", "_.TXT"),
        ("A.B.TXT", "A_B.TXT"),
    ],
)
def test_the_short_form_of_a_name_is_what_xorriso_makes_of_it(name, short):
    assert short_form(name) == short


@pytest.mark.parametrize(
    "name",
    [
        *("DICOMDIR", "dicomdir.", "DICOMDIR ", "DICOMDIRS", "DicomDirViewer", "DICOM/x", "dicom./x", "IHE PDI/x"),
        *("INDEX.HTML", "Index.htm~", "README.TXT;1", "readme.txt1", "SHA256.TXTX", "AUTORUN.INFO"),
    ],
)
def test_in_the_root_no_name_may_be_or_become_one_of_the_disc_s_own(name, folder):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    why = refused(folder, "root")
    assert "needs for itself" in why
    assert name.split("/")[0] in why
    assert 'viewer_at = "VIEWER"' in why
    if name not in {"dicomdir.", "DICOMDIR ", "dicom./x", "README.TXT;1"}:  # unfit in any folder
        assert viewer_files(folder, "VIEWER")


@pytest.mark.parametrize("name", ["README.DOC", "DICOMDIR.EXE", "INDEX.PHP", "IHE_PDI1", "DICOM.exe", "VIEWER"])
def test_a_name_in_the_root_that_stays_another_is_allowed(name, folder):
    (folder / name).write_text("x")
    assert len(viewer_files(folder, "root")) == 3


@pytest.mark.parametrize("sign", list('*:;?\\"<>|\n\x7f\u2028\U0001f600\udcff'))
def test_a_character_that_cannot_be_on_a_disc_is_refused(sign):
    assert "a character in its name that cannot be on a disc: rename it" in fault(f"lib/a{sign}b.txt")


@pytest.mark.parametrize("path", ["name.", "name...", "name ", "lib./x", "lib /x"])
def test_a_name_that_ends_with_a_dot_or_a_blank_is_refused(path):
    assert "ends with a dot or a blank" in fault(path)


@pytest.mark.parametrize(
    "path", ["a=b.dll", "ein Name mit é µ und #'$.txt", "n" * 64, " a b", "-x", "a.b.c.tar.gz"]
)
def test_every_other_name_is_taken(path):
    check_names([(path,)], ())


def test_names_and_paths_too_long_for_joliet_are_refused():
    assert "more than 64 characters" in fault("n" * 65)
    check_names([("d" * 60, "e" * 58)], ())
    assert "too long a path" in fault("d" * 60 + "/" + "e" * 59)
    check_names([("a" * 20, "b" * 20, "c" * 20, "d" * 20, "e" * 20, "f" * 10, "g" * 6)], ())
    assert "too long a path" in fault(
        "/".join(["a" * 20, "b" * 20, "c" * 20, "d" * 20, "e" * 20, "f" * 10, "g" * 7])
    )
    assert "8 levels" in fault("a/b/c/d/e/f/g/h/i")


@pytest.mark.parametrize(
    "paths", [("A.txt", "a.TXT"), ("Lib/x", "lib/y"), ("a/Lib/x", "a/lib/y"), ("LIB", "lib/y")]
)
def test_two_names_that_differ_in_case_only_are_refused_folders_too(paths):
    assert "differ in case only, which Windows does not see: rename it" in fault(*paths)


@pytest.mark.parametrize(
    "paths", [("ABCDEFGHI.TXT", "ABCDEFGH.TXT"), ("A_B.TXT", "A B.txt"), ("LIBRARIES/x", "LIBRARIE/x")]
)
def test_a_short_name_must_stay_the_file_s_own(paths):
    assert "have the same short name" in fault(*paths)
    assert "have the same short name" in fault(*reversed(paths))


def test_long_names_that_get_other_short_ones_are_no_matter():
    check_names([("library_one.dll",), ("library_two.dll",), ("a", "ABCDEFGH.TXT"), ("b", "ABCDEFGHI.TXT")], ())


def test_a_pipe_or_a_socket_is_refused_and_nobody_waits_for_it(folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    assert "viewer/pipe is no file, but a pipe, a socket or a device: remove it" in refused(folder)
    (folder / "pipe").unlink()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    assert "viewer/socket is no file" in refused(folder)


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "/dev/null"])
def test_a_link_that_leads_out_of_the_folder_is_refused(target, folder):
    (folder.parent / "secret").write_text("x")
    (folder / "lib" / "p.txt").symlink_to(folder / target)
    assert "lib/p.txt is a link that leads out of the folder: put the file itself there" in refused(folder)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc", "is a link that leads out of the folder"),
        ("lib", "is a link to a folder"),
        ("nowhere", "is a link that leads nowhere"),
        ("link", "is a link that leads nowhere"),
    ],
)
def test_a_link_to_a_folder_to_nothing_or_to_itself_is_refused(target, words, folder):
    (folder / "link").symlink_to(target)
    assert f"viewer/link {words}" in refused(folder)


def test_a_link_within_the_folder_is_followed_and_the_folder_may_be_a_link_itself(folder, tmp_path):
    (folder / "again.exe").symlink_to("start.exe")
    (tmp_path / "current").symlink_to(folder)
    places = {"/".join(one.place): one.size for one in viewer_files(tmp_path / "current", "VIEWER")}
    assert places == {"VIEWER/start.exe": 2, "VIEWER/again.exe": 2, "VIEWER/lib/a.dll": 1}


IS_OBJECT = "demo/SAMPLE.DCM is a DICOM object: remove it"


@pytest.mark.parametrize("at", ["VIEWER", "root"])
@pytest.mark.parametrize(
    "source", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "reportsi.dcm"]
)
def test_somebody_s_image_in_the_viewer_s_folder_is_refused(source, at, folder):
    an_object(folder / "demo", "SAMPLE.DCM", source=source)
    assert IS_OBJECT in refused(folder, at)


@pytest.mark.parametrize("cut", [None, 600])
@pytest.mark.parametrize("begins", ["meta", "data set"])
@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "reportsi.dcm"])
def test_an_image_without_its_preamble_is_refused_even_where_it_is_cut(source, begins, cut, folder):
    path = an_object(folder / "demo", "SAMPLE.DCM", source=source)
    whole = path.read_bytes()
    start = 132 if begins == "meta" else 144 + int.from_bytes(whole[140:144], "little")
    path.write_bytes(whole[start:][:cut])
    assert IS_OBJECT in refused(folder)


def test_an_image_that_begins_with_a_sequence_is_refused(folder):
    sequence = b"\x08\0\x06\0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    for begins in (sequence, sequence[:4] + sequence[8:]):
        (folder / "x.bin").write_bytes(begins + bytes(HEAD))
        assert "viewer/x.bin is a DICOM object" in refused(folder)


@pytest.mark.parametrize("name", ["DICOMDIR", "index.bin"])
@pytest.mark.parametrize("start", [0, 132])
def test_an_index_in_the_viewer_s_folder_is_refused(start, name, folder):
    (folder / "lib" / name).write_bytes(Path(get_testdata_file("DICOMDIR")).read_bytes()[start:])
    assert f"lib/{name} is a DICOMDIR, the index of other objects: remove it" in refused(folder)


def test_programs_are_not_taken_for_images():
    standard = Path(sysconfig.get_path("stdlib"))
    folders = [Path("/usr/bin").glob("*"), standard.glob("*"), standard.glob("*/*")]
    heads = {}
    for path in (one for found in folders for one in found if one.is_file()):
        with contextlib.suppress(PermissionError), path.open("rb") as file:
            heads[path] = file.read(HEAD)
    assert len(heads) > 500
    assert [path for path, head in heads.items() if what_dicom(head)] == []


@pytest.mark.parametrize(
    "begins", [b"\x08\0", b"\x02\0", b"\x08\0\x18\0UI\x06\0a.b.c ", b"\x08\0\x05\0\xff\xff\xff\xff"]
)
def test_what_only_begins_like_an_image_is_taken(begins, folder):
    for rest in (b"", bytes(HEAD), os.urandom(64) + bytes(HEAD)):
        (folder / "x.bin").write_bytes(begins + rest)
        assert viewer_files(folder, "VIEWER")


def test_check_finds_an_image_in_the_viewer_s_folder_before_any_disc_is_made(folder, tmp_path):
    an_object(folder / "demo", "SAMPLE.DCM")
    table = {"name": "disc", "kind": "iso", "folder": str(tmp_path), "viewer": str(folder)}
    with pytest.raises(UnfitViewer, match=IS_OBJECT):
        list(from_table(table).problems())


def test_check_finds_an_unfit_viewer_before_any_disc_is_made(folder, tmp_path):
    (folder / "INDEX.HTML").write_text("x")
    table = {"name": "disc", "kind": "iso", "folder": str(tmp_path), "viewer": str(folder), "viewer_at": "root"}
    with pytest.raises(UnfitViewer, match=r"INDEX\.HTML has or gets the name INDEX\.HTM"):
        list(from_table(table).problems())


def test_what_means_something_in_a_list_of_graft_points_is_quoted_on_the_disc_s_side(tmp_path):
    (tmp_path / "x").write_text("x")
    assert graft_points({"a=b\\c": tmp_path / "x"}, tmp_path / "links").decode() == f"a\\=b\\\\c={tmp_path}/x\n"


# --- AUTORUN.INF -------------------------------------------------------------------------------------------

AUTORUN = "[autorun]\r\nopen=start.exe\r\n; a remark = nothing\r\nicon=start.ico\r\nlabel=\x1bImages\r\n"


@pytest.mark.parametrize("name", ["AUTORUN.INF", "autorun.inf", "Autorun.Inf"])
def test_check_says_what_is_lost_of_a_viewer_that_would_start_by_itself(name, folder, tmp_path):
    (folder / name).write_text(AUTORUN, encoding="latin-1")
    table = {"name": "disc", "kind": "iso", "folder": str(tmp_path), "viewer": str(folder)}
    (note,) = from_table(table).notes()
    assert "the viewer's AUTORUN.INF is on no disc" in note
    assert "(open=start.exe; icon=start.ico; " in note
    assert "viewer_autorun = true" in note
    assert "\x1b" not in note
    assert list(from_table(table | {"viewer_at": "root", "viewer_autorun": True}).notes()) == []


def test_check_has_nothing_to_say_of_a_viewer_that_starts_nothing(folder, tmp_path):
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib" / "AUTORUN.INF").write_text(AUTORUN)  # Windows looks into the root only
    table = {"name": "disc", "kind": "iso", "folder": str(tmp_path)}
    assert list(from_table(table | {"viewer": str(folder)}).notes()) == []
    assert list(from_table(table).notes()) == []


def test_the_autorun_of_a_viewer_in_the_root_goes_along_where_the_site_wants_it(folder):
    (folder / "AUTORUN.INF").write_text(AUTORUN)
    assert ("AUTORUN.INF",) in [one.place for one in viewer_files(folder, "root", with_autorun=True)]
    assert ("AUTORUN.INF",) not in [one.place for one in viewer_files(folder, "root")]
    (folder / "AUTORUN.INFO").write_text("x")
    with pytest.raises(UnfitViewer, match="short name"):
        viewer_files(folder, "root", with_autorun=True)


def test_an_autorun_that_could_not_work_is_refused_when_the_configuration_is_read(folder, tmp_path):
    table = {"name": "disc", "kind": "iso", "folder": str(tmp_path), "viewer": str(folder), "viewer_autorun": True}
    with pytest.raises(ValidationError, match='viewer_autorun = true needs viewer_at = "root"'):
        from_table(table)
