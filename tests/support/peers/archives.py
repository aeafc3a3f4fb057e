"""Archives that answer C-FIND and C-MOVE: Orthanc, and DCMTK's dcmqrscp, which behaves otherwise.

Each knows one move destination, the receiver of the site under test, and holds the studies it is given.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from support.machine.dicom_programs import dcmsend, free_port, orthanc, program, running

OUR_AE_TITLE = "CDRECORD"


@dataclass(frozen=True)
class Archive:
    """A PACS at `port`, called by `ae_title`."""

    ae_title: str
    port: int
    log: Path

    def store(self, *files: Path) -> None:
        """Send files to it; fails unless every one is acknowledged."""
        sent = dcmsend(self.port, *files, called=self.ae_title)
        assert sent.acknowledged == len(files), sent.output

    def table(self, **keys: object) -> dict[str, object]:
        """Return the [pacs] table that names it."""
        return {
            "ae_title": self.ae_title,
            "host": "127.0.0.1",
            "port": self.port,
            "calling_ae_title": OUR_AE_TITLE,
            "receiver": "cdrecord",
            **keys,
        }


@contextlib.contextmanager
def orthanc_archive(folder: Path, destination_port: int, **configuration: object) -> Iterator[Archive]:
    """Run Orthanc with our receiver among its DicomModalities."""
    modalities = {"us": {"AET": OUR_AE_TITLE, "Host": "127.0.0.1", "Port": destination_port, "AllowGet": True}}
    with orthanc(folder, DicomModalities=modalities, DicomAlwaysAllowFind=True, **configuration) as running_one:
        yield Archive("ORTHANC", running_one.dicom_port, running_one.log)


@contextlib.contextmanager
def dcmqrscp_archive(folder: Path, destination_port: int, *options: str) -> Iterator[Archive]:
    """Run DCMTK's own archive with our receiver in its host table."""
    storage = folder / "storage"
    storage.mkdir(parents=True)
    port = free_port()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nus = ({OUR_AE_TITLE}, 127.0.0.1, {destination_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {storage} RW (1000, 1024mb) ANY\nAETable END\n"
    )
    log = folder / "dcmqrscp.log"
    with running([program("dcmqrscp"), "-c", configuration, *options], log=log, port=port):
        yield Archive("QRSCP", port, log)


def study(
    folder: Path,
    accession: str,
    *,
    instances: int = 3,
    series: int = 1,
    modalities: tuple[str, ...] = ("CT",),
    patient: str = "P1",
    uid: str = "",
    **attributes: object,
) -> list[Path]:
    """Write a study of `series` series with `instances` each, small and real, and return its files."""
    uid = uid or generate_uid()
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(series):
        series_uid = generate_uid()
        for one in range(instances):
            dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
            values = {
                "StudyInstanceUID": uid,
                "SeriesInstanceUID": series_uid,
                "SOPInstanceUID": generate_uid(),
                "AccessionNumber": accession,
                "PatientID": patient,
                "PatientName": f"Name^{patient}",
                "Modality": modalities[number % len(modalities)],
                "InstanceNumber": one + 1,
                **attributes,
            }
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            path = folder / f"{accession}-{len(list(folder.iterdir())):04d}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            files.append(path)
    return files


def study_uid(files: list[Path]) -> str:
    return str(header(files[0]).StudyInstanceUID)


def header(file: Path) -> Dataset:
    return pydicom.dcmread(file, stop_before_pixels=True)
