"""C-GET from an archive that holds compressed instances: what comes, and what the order says of the rest."""

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from support.machine.dicom_programs import ENVIRONMENT, free_port, program
from support.peers.archives import dcmqrscp_archive
from support.sites.orders_site import orders_site

from pipeline.model import OrderError, OrderState

pytestmark = pytest.mark.programs

SOURCES = ("CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm")


def mixed_study(folder: Path, accession: str) -> dict[str, Path]:
    """Write a study in four transfer syntaxes, only the first uncompressed; return it by SOP Instance UID."""
    folder.mkdir()
    study, series, made = generate_uid(), generate_uid(), {}
    for name in SOURCES:
        dataset = pydicom.dcmread(get_testdata_file(name))
        dataset.update({"StudyInstanceUID": study, "SeriesInstanceUID": series, "AccessionNumber": accession})
        dataset.update({"PatientID": "P1", "PatientName": "Name^P1", "PatientBirthDate": "", "Modality": "OT"})
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made[str(dataset.SOPInstanceUID)] = folder / name
        dataset.save_as(folder / name, enforce_file_format=True)
    return made


def test_what_an_archive_keeps_compressed_is_counted_as_not_had_by_c_get_and_the_order_is_not_done(tmp_path):
    files = mixed_study(tmp_path / "made", "GET")
    with dcmqrscp_archive(tmp_path / "dcmqrscp", free_port()) as archive:
        storage = tmp_path / "dcmqrscp/storage"
        held = [str(shutil.copy(file, storage)) for file in files.values()]  # it would decompress what it is sent
        subprocess.run([program("dcmqridx"), storage, *held], env=ENVIRONMENT, check=True)
        with orders_site(tmp_path, archive, free_port(), pacs={"retrieve": "get"}) as site:
            view = site.order("GET")
            assert (view.state, view.error_kind) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE)
            assert (view.expected, view.received, view.sent) == (4, 1, 0)
            assert "1 of 4 instances have come; 3 could not be had by C-GET (it takes uncompressed" in str(
                view.detail
            )
            view = site.order("GET", incomplete_allowed=True)
            assert (view.state, view.expected, view.sent) == (OrderState.PARTIAL, 4, 1)
            assert "3 could not be had by C-GET" in str(view.detail)
            [delivered] = site.delivered()
            assert pydicom.dcmread(delivered).SOPInstanceUID == next(iter(files))
