"""Ten thousand objects on one disc: sound by every validator, and made in little memory."""

import time
from pathlib import Path

import pydicom
import pytest
from support.machine.process_memory import Peak
from support.studies.discs import STUDY, an_object, assert_sound, options

from pipeline.disc.make.make import make_disc
from pipeline.disc.model import SourceFile

pytestmark = [pytest.mark.programs, pytest.mark.long, pytest.mark.filterwarnings("ignore::UserWarning")]

OBJECTS, SERIES = 10_000, 20
MOST_BYTES = 300_000_000  # of all processes together


def small_objects(folder: Path) -> list[Path]:
    """Write many objects of one study, each with pixels of its own, 16 x 16 of them."""
    data_set = pydicom.dcmread(an_object(folder, "first"))
    data_set.Rows = data_set.Columns = 16
    paths = []
    for number in range(OBJECTS):
        series = number * SERIES // OBJECTS + 1
        data_set.SeriesInstanceUID, data_set.SeriesNumber = f"{STUDY}.{series}", series
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.{series}.{number}"
        data_set.InstanceNumber = number
        data_set.PixelData = number.to_bytes(2, "little") * 256
        paths.append(folder / f"{number:05d}")
        data_set.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_ten_thousand_objects_become_a_sound_disc_in_less_than_300_mb(tmp_path, record_property):
    sources = [SourceFile(path) for path in small_objects(tmp_path / "in")]
    began = time.monotonic()
    with Peak() as peak:
        disc = make_disc(sources, tmp_path / "disc.iso", options(workers=0))
    seconds = time.monotonic() - began
    said = f"{OBJECTS} objects: {seconds:.1f} s, {peak.bytes / 1e6:.0f} MB at most, image {disc.size / 1e6:.0f} MB"
    print(said)
    record_property("table: ten thousand objects", said)
    assert (len(disc.instances), disc.left_out, disc.duplicates) == (OBJECTS, (), 0)
    assert peak.bytes < MOST_BYTES
    assert_sound(disc, tmp_path / "x")
