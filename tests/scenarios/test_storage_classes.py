"""The fourteen storage classes hospitals have asked for by name, each through the whole line."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from support.machine.dicom_programs import dcmsend, orthanc, program
from support.sites.running_site import running_site
from support.studies.accounting import ORIGINAL_ATTRIBUTES, archived, are_same_pixels, changed_values, key_of, read
from support.studies.storage_classes import CLASSES, WITHOUT_PIXELS, build

pytestmark = pytest.mark.programs


@dataclass
class Passage:
    """An instance on both sides of the line, and what the line says it did."""

    sent: Dataset
    arrived: Dataset
    row: dict[str, Any]


def passages(mode: str, folder: Path) -> dict[str, Passage]:
    files = {name: build(name, folder / "sent") for name in CLASSES}
    with (
        orthanc(folder / "orthanc") as archive,
        running_site(
            folder / "site",
            mode=mode,
            destinations=[{"name": "archive", "kind": "stow", "url": archive.studies, "encode": "j2k"}],
            mapping={"MODALITY": "Our Hospital"},
        ) as site,
    ):
        assert dcmsend(site.port, *files.values(), calling="MODALITY").acknowledged == len(CLASSES)
        site.wait_settled(len(CLASSES))
        rows = {row["sop_instance_uid"]: row for row in site.instances()}
        stored = archived(archive)
    sent = {name: read(file) for name, file in files.items()}
    assert len(stored) == len(rows) == len(CLASSES)
    return {name: Passage(one, stored[key_of(one)], rows[one.SOPInstanceUID]) for name, one in sent.items()}


@pytest.mark.parametrize("mode", ["study", "association"])
def test_each_of_the_fourteen_classes_arrives_coerced_encoded_and_unharmed(mode, tmp_path):
    for name, passage in passages(mode, tmp_path).items():
        assert passage.arrived.SOPClassUID == CLASSES[name]
        assert passage.row["deliveries"][0]["verified"], name
        assert passage.arrived.InstitutionName == "Our Hospital", name
        assert is_encoded_if_it_can_be(name, passage), name
        assert are_same_pixels(passage.sent, passage.arrived), name
        said = {tag_for_keyword(change["keyword"]) for change in passage.row["changes"]}
        assert changed_values(passage.sent, passage.arrived) == said | {ORIGINAL_ATTRIBUTES}, name


def is_encoded_if_it_can_be(name: str, passage: Passage) -> bool:
    arrived_in = passage.arrived.file_meta.TransferSyntaxUID
    if name in WITHOUT_PIXELS:
        return (passage.row["state"], passage.row["reason"], arrived_in) == (
            "passed",
            "no Pixel Data",
            ExplicitVRLittleEndian,
        )
    return (passage.row["state"], passage.row["reason"], arrived_in) == ("encoded", None, JPEG2000Lossless)


@pytest.mark.parametrize("name", CLASSES)
def test_what_the_tests_build_is_what_it_says(name, tmp_path):
    said = subprocess.run(
        [program("dciodvfy"), build(name, tmp_path)], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    assert not [line for line in said.splitlines() if line.startswith("Error")]
