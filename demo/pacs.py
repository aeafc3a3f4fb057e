"""The PACS of the demonstration: an Orthanc with studies under accession numbers."""

from pathlib import Path

import archive as archives
import study as studies
from archive import Archive
from programs import free_port

AE_TITLE = "PACS"
ACCESSION_NUMBERS = ("DEMO1", "DEMO2")  # of one patient, so that both fit on one disc


def start(folder: Path, log: Path, *, calling_ae_title: str, port: int) -> tuple[Archive, int]:
    """Start it, give it its studies, and return it with its DICOM port; it sends to us at `port`."""
    dicom_port = free_port()
    dicom: dict[str, object] = {
        "Name": "PACS of the demonstration",
        "DicomServerEnabled": True,
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"storestow": {"AET": calling_ae_title, "Host": "127.0.0.1", "Port": port}},
    }
    pacs = archives.start(folder, log, dicom)
    try:
        pacs.store(studies.under_numbers(folder / "studies", ACCESSION_NUMBERS))
    except BaseException:  # also Ctrl-C: whoever called has no handle yet to stop it by
        pacs.program.stop()
        raise
    return pacs, dicom_port
