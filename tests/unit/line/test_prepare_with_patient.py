"""What leaves as it came is the very file, where its own header says what it is; else it is made right."""

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.sites.preparing import task_of

from pipeline.errors import Permanent
from pipeline.line.prepare import prepare
from pipeline.line.prepare_with_patient import prepare_identified


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a"
    path.write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    return path


def test_a_sound_file_is_sent_itself_and_exactly_what_the_long_way_gives(file, tmp_path):
    task = task_of(file, tmp_path)
    ready = prepare_identified(task)
    assert ready.prepared == prepare(task)
    assert ready.prepared.outputs[0].path == file
    assert ready.patient.identifier == "1CT1"


def test_a_header_that_names_another_instance_is_written_anew(file, tmp_path):
    dataset = pydicom.dcmread(file)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(file)
    (output,) = prepare_identified(task_of(file, tmp_path)).prepared.outputs
    assert output.path != file
    assert pydicom.dcmread(output.path).file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_what_is_to_be_encoded_is_encoded(file, tmp_path):
    (output,) = prepare_identified(task_of(file, tmp_path, "j2k")).prepared.outputs
    assert output.transfer_syntax_uid == "1.2.840.10008.1.2.4.90"


def test_a_file_that_was_cut_since_is_no_instance_any_more(file, tmp_path):
    task = task_of(file, tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(Permanent, match="has changed since it was taken in"):
        prepare_identified(task)
