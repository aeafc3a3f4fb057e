"""A study that exceeds its medium, as a numbered set: every disc complete in itself, together everything once."""

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pydicom
import pytest
from dicom_programs import ENVIRONMENT, program
from discs import STUDY, a_disc, an_object, assert_sound, files_below, options, records_of, taken_apart

from pipeline.disc.errors import NameInUse, NotAsWritten, SeveralPatients, TooLarge
from pipeline.disc.make import division, sets
from pipeline.disc.make.making import make_discs
from pipeline.disc.model import Disc, Source
from pipeline.disc.result import as_json
from pipeline.disc.verify import printing
from pipeline.disc.verify.inspection import inspect

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

TINY = 1_500_000  # bytes: ten objects of 39 kB, and what every disc has besides
SERIES = {1: 4, 2: 5, 3: 3, 4: 23, 5: 2}  # Series Number: objects; the fourth alone exceeds a disc


@pytest.fixture(scope="module")
def module_study(tmp_path_factory):
    """One patient's study with a series that alone exceeds the medium."""
    return a_study(tmp_path_factory.mktemp("study") / "in")


@pytest.fixture
def study(module_study):
    return list(module_study)


def a_study(folder: Path, series: dict[int, int] = SERIES) -> list[Path]:
    return [
        an_object(
            folder,
            f"{number}-{one}",
            SeriesInstanceUID=f"{STUDY}.{number}",
            SeriesNumber=number,
            SeriesDescription=f"No. {number} <&>",
            InstanceNumber=one,
        )
        for number, count in series.items()
        for one in range(1, count + 1)
    ]


def a_set(folder: Path, *paths: Path, name: str = "A1.iso", **changed: object) -> tuple[Disc, ...]:
    changed = {"sets": True, "capacity_bytes": TINY, **changed}
    return make_discs([Source(path) for path in paths], folder / name, options(**changed))


def uids(paths: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]


def series_on(disc: Disc) -> dict[str, int]:
    return {series.number: series.instances for study in disc.studies for series in study.series}


def test_every_disc_is_sound_and_together_they_hold_every_object_exactly_once(tmp_path, study):
    discs = a_set(tmp_path, *study)
    assert [one.path.name for one in discs] == [f"A1-{n}of{len(discs)}.iso" for n in range(1, len(discs) + 1)]
    assert {one.path.parent for one in discs} == {tmp_path / "A1"}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["A1"]
    found: list[str] = []
    for number, disc in enumerate(discs, 1):
        assert disc.size == disc.path.stat().st_size <= TINY
        root = assert_sound(disc, tmp_path / f"x{number}")
        found += [str(one.SOPInstanceUID) for one, _ in records_of(root)]
        assert {"DICOMDIR", "README.TXT", "INDEX.HTM", "SHA256.TXT", "IHE_PDI", "DICOM"} == {
            one.name for one in root.iterdir()
        }
    assert sorted(found) == sorted(uids(study))
    assert len(found) == len(set(found)) == sum(SERIES.values())


def test_a_series_is_divided_only_where_it_alone_exceeds_a_disc_and_the_order_of_the_study_is_kept(
    tmp_path, study
):
    discs = a_set(tmp_path, *study)
    assert [series_on(disc) for disc in discs] == [
        {"1": 4, "2": 5},
        {"3": 3},
        {"4": 10},
        {"4": 10},
        {"4": 3, "5": 2},
    ]
    order = [
        int(pydicom.dcmread(file, stop_before_pixels=True).SeriesNumber)
        for number, disc in enumerate(discs)
        for file in files_below(taken_apart(disc.path, tmp_path / f"x{number}") / "DICOM")
    ]
    assert order == sorted(order)


def test_dcmmkdir_writes_of_every_disc_the_records_that_ours_has(tmp_path, study):
    for number, disc in enumerate(a_set(tmp_path, *study), 1):
        root = taken_apart(disc.path, tmp_path / f"x{number}")
        words = ["-q", "-Pgp", "+I", "-a", "-nb", "+r", "+id", ".", "+D", "THEIRS", "+F", disc.volume_id, "DICOM"]
        subprocess.run([program("dcmmkdir"), *words], cwd=root, env=ENVIRONMENT, check=True)
        ours, theirs = (pydicom.dcmread(root / name).DirectoryRecordSequence for name in ("DICOMDIR", "THEIRS"))
        kinds = [[record.DirectoryRecordType for record in records] for records in (ours, theirs)]
        assert kinds[0] == kinds[1]
        leaves = [[one for one in records if "ReferencedFileID" in one] for records in (ours, theirs)]
        named = [
            {tuple(one.ReferencedFileID): one.ReferencedSOPInstanceUIDInFile for one in some} for some in leaves
        ]
        assert named[0] == named[1]


def test_every_disc_says_in_words_which_one_it_is_and_what_is_on_the_others(tmp_path, study):
    discs = a_set(tmp_path, *study)
    for number, disc in enumerate(discs, 1):
        root = taken_apart(disc.path, tmp_path / f"x{number}")
        readme = (root / "README.TXT").read_text("utf-8-sig").replace("\r\n", "\n")
        assert f"DISC {number} OF 5   Set: 20040119_" in readme
        assert f"DISCO {number} DE 5" in readme
        assert (
            "  Study of 2004-01-19, accession A1, e+1\n    series 1 (CT) No. 1 <&>: 4 objects on disc 1\n"
            in readme
        )
        assert (
            "    series 4 (CT) No. 4 <&>: 10 objects on disc 3, 10 objects on disc 4, 3 objects on disc 5\n"
            in readme
        )
        page = (root / "INDEX.HTM").read_text("utf-8")
        assert f"Disc {number} of 5." in page
        assert f"Disco {number} de 5:" in page
        assert "No. 4 &lt;&amp;&gt;" in page
        assert f"{number} (this / este): " in page
        ET.fromstring(page.partition("\n")[2])


def test_of_several_studies_and_patients_every_disc_says_which_study_a_series_is_of_and_whose(tmp_path):
    told = (
        ("P1", "Doe^Jane", "A1", "CT abdomen", 20),
        ("P1", "Doe^Jane", "A2", "<CT thorax>", 20),
        ("P2", "Roe^Richard", "", "", 1),
    )
    paths = [
        an_object(
            tmp_path / "in",
            f"{study}-{one}",
            PatientID=patient,
            PatientName=name,
            AccessionNumber=accession,
            StudyDescription=description,
            StudyInstanceUID=f"{STUDY}.{study}",
            SeriesInstanceUID=f"{STUDY}.{study}.1",
            SeriesDescription="Axial",
        )
        for study, (patient, name, accession, description, count) in enumerate(told)
        for one in range(count)
    ]
    for number, disc in enumerate(a_set(tmp_path, *paths, allow_several_patients=True), 1):
        root = taken_apart(disc.path, tmp_path / f"x{number}")
        readme = (root / "README.TXT").read_text("utf-8-sig").replace("\r\n", "\n")
        assert (
            "\n  Patient 1 of 2, study of 2004-01-19, accession A1, CT abdomen\n"
            "    series 1 (CT) Axial: 10 objects on disc 1, 10 objects on disc 2\n"
            "\n  Patient 1 of 2, study of 2004-01-19, accession A2, <CT thorax>\n"
            "    series 1 (CT) Axial: 10 objects on disc 3, 10 objects on disc 4\n"
            "\n  Patient 2 of 2, study of 2004-01-19\n"
            "    series 1 (CT) Axial: 1 object on disc 5\n"
            "\n  INDEX.HTM says who the patients are.\n"
        ) in readme
        assert "Doe" not in readme
        page = (root / "INDEX.HTM").read_text("utf-8")
        body = ET.fromstring(page[page.index("<body>") : page.index("</html>")].replace("&#160;", " "))
        assert [" ".join("".join(one.itertext()).split()) for one in body.iterfind(".//th[@class='study']")] == [
            "Patient / Paciente 1: Doe, Jane, P1 · 2004-01-19 · CT abdomen · Accession / Acceso: A1",
            "Patient / Paciente 1: Doe, Jane, P1 · 2004-01-19 · <CT thorax> · Accession / Acceso: A2",
            "Patient / Paciente 2: Roe, Richard, P2 · 2004-01-19",
        ]


def test_the_volumes_of_a_set_belong_together_differ_and_name_nobody(tmp_path, study):
    discs = a_set(tmp_path, *study)
    names = [disc.volume_id for disc in discs]
    (stem,) = {name.rpartition("_")[0] for name in names}
    assert names == [f"{stem}_{n}" for n in range(1, 6)]
    assert all(len(name) <= 16 and "DOE" not in name.upper() for name in names)
    assert [disc.place.number for disc in discs if disc.place] == [1, 2, 3, 4, 5]


def test_verify_checks_one_disc_as_ever_and_says_which_one_it_is(tmp_path, study):
    discs = a_set(tmp_path, *study)
    found = inspect(discs[1].path)
    assert (found.is_good, found.findings, found.objects, found.place) == (True, [], 3, (2, 5))
    whole = a_disc(tmp_path, *study[:2])
    assert inspect(whole.path).place is None


def test_the_folder_of_a_set_is_said_to_be_none_and_the_command_for_one_of_its_discs_is_named(tmp_path, study):
    discs = a_set(tmp_path, *study, name="A 1.iso")
    (finding,) = inspect(tmp_path / "A 1").findings
    assert finding.level == "error"
    assert "no disc, but a folder with 5 images of discs" in finding.text
    assert finding.text.endswith(f"storestow disc verify '{discs[0].path}'")
    (tmp_path / "A 1" / "DICOMDIR").write_text("a disc with an image on it")
    assert "DICOMDIR" in inspect(tmp_path / "A 1").findings[0].text
    assert "images of discs" not in inspect(tmp_path / "A 1").findings[0].text


def test_what_fits_on_one_disc_is_one_disc(tmp_path, study):
    (disc,) = a_set(tmp_path, *study[:5])
    assert disc.path == tmp_path / "A1.iso"
    assert disc.place is None
    assert sorted(one.name for one in tmp_path.iterdir()) == ["A1.iso"]


def test_without_the_permission_what_exceeds_the_medium_is_refused_with_its_sizes(tmp_path, study):
    with pytest.raises(TooLarge, match=r"the disc would be [\d,]+ bytes; a DVD holds 1,500,000"):
        a_set(tmp_path, *study, sets=False)
    assert list(tmp_path.iterdir()) == []


def test_with_auto_a_set_is_of_dvds_and_keeps_jpeg_2000_with_cd_it_is_of_cds_and_does_not(tmp_path, study):
    more = [
        an_object(tmp_path / "in", str(n), source="MR_small_jp2klossless.dcm", Modality="MR") for n in range(2)
    ]
    auto = a_set(tmp_path, *study, *more)
    cds = a_set(tmp_path, *study, *more, name="B1.iso", media="cd")
    assert {one.medium.name for one in auto} == {"dvd"}
    assert {one.medium.name for one in cds} == {"cd"}
    assert sum(one.transfer_syntax_uid.endswith(".4.90") for disc in auto for one in disc.instances) == 2
    assert sum(one.decoded_from is not None for disc in cds for one in disc.instances) == 2


def test_one_object_larger_than_a_disc_is_refused_and_leaves_nothing(tmp_path, study):
    with pytest.raises(TooLarge, match="one object of"):
        a_set(tmp_path, *study, capacity_bytes=(1 << 20) + 40_000)
    assert list(tmp_path.iterdir()) == []


def test_two_patients_are_refused_before_anything_is_divided(tmp_path, study):
    with pytest.raises(SeveralPatients):
        a_set(tmp_path, *study, an_object(tmp_path / "in", PatientID="P2"))
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_what_is_left_out_is_listed_on_every_disc(tmp_path, study):
    private = an_object(tmp_path / "in", SOPClassUID="1.3.12.2.1107.5.9.1")
    for number, disc in enumerate(a_set(tmp_path, *study, private), 1):
        assert len(disc.left_out) == 1
        readme = (taken_apart(disc.path, tmp_path / f"x{number}") / "README.TXT").read_text("utf-8-sig")
        assert str(pydicom.dcmread(private).SOPInstanceUID) in readme


@pytest.mark.parametrize("broken", [1, 5])
def test_a_set_of_which_one_disc_does_not_read_back_is_not_there_at_all(tmp_path, study, monkeypatch, broken):
    count = 0
    written = sets.written_image

    def spoilt(*words):
        nonlocal count
        count += 1
        image = written(*words)
        if count == broken:
            at = image.read_bytes().find(b"DICM") + 20_000  # in the pixels of an object
            with image.open("r+b") as file:
                file.seek(at)
                file.write(b"\xff" * 500)
        return image

    monkeypatch.setattr(sets, "written_image", spoilt)
    with pytest.raises(NotAsWritten):
        a_set(tmp_path, *study)
    assert list(tmp_path.iterdir()) == []


def test_a_division_that_loses_or_repeats_an_object_is_found_out(tmp_path, study, monkeypatch):
    divided = sets.divided
    for wrong in (lambda discs: [discs[0][1:], *discs[1:]], lambda discs: [*discs, discs[0][:1]]):
        monkeypatch.setattr(sets, "divided", lambda *words, wrong=wrong: wrong(divided(*words)))
        with pytest.raises(NotAsWritten, match="every object exactly once"):
            a_set(tmp_path, *study)
        assert list(tmp_path.iterdir()) == []


def test_a_set_too_large_by_what_was_not_foreseen_is_divided_once_more(tmp_path, study, monkeypatch):
    monkeypatch.setattr(division, "_BESIDE", -30_000)
    discs = a_set(tmp_path, *study, capacity_bytes=TINY + 600_000)
    assert all(one.size <= TINY + 600_000 for one in discs)
    assert sum(len(one.instances) for one in discs) == len(study)


def test_a_name_in_use_by_a_file_or_a_folder_is_left_alone(tmp_path, study):
    (tmp_path / "A1").mkdir()
    (tmp_path / "A1" / "theirs").write_text("x")
    with pytest.raises(NameInUse):
        a_set(tmp_path, *study)
    assert [one.name for one in tmp_path.rglob("*")] == ["A1", "theirs"]


def test_the_viewer_is_on_every_disc(tmp_path, study):
    viewer = tmp_path / "viewer"
    viewer.mkdir()
    (viewer / "start.exe").write_bytes(b"MZ" * 50_000)
    discs = a_set(tmp_path, *study, viewer=viewer)
    assert len(discs) > 5
    for number, disc in enumerate(discs):
        root = taken_apart(disc.path, tmp_path / f"x{number}")
        assert (root / "VIEWER" / "start.exe").stat().st_size == 100_000


def test_results_name_the_set_and_nobody(tmp_path, study):
    results = [as_json(disc, disc.path.name) for disc in a_set(tmp_path, *study)]
    (identity,) = {one["set"]["id"] for one in results}
    assert [one["set"] for one in results] == [{"id": identity, "disc": n, "of": 5} for n in range(1, 6)]
    assert "Doe" not in json.dumps(results)


def test_the_command_says_that_it_is_a_set_where_it_lies_and_what_verify_finds(tmp_path, study, capsys):
    discs = a_set(tmp_path, *study)
    printing.show_discs(discs, as_json=False)
    printed = capsys.readouterr().out
    assert f"A SET OF 5 DISCS, in the folder {tmp_path / 'A1'}: hand out all of them" in printed
    assert printed.count("read back: every object") == 5
    printing.show_discs(discs, as_json=True)
    assert [one["set"]["disc"] for one in json.loads(capsys.readouterr().out)] == [1, 2, 3, 4, 5]
    printing.show_inspection(inspect(discs[1].path), as_json=False)
    assert "this is disc 2 of 5" in capsys.readouterr().out
