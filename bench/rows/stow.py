"""100 CT sent to an Orthanc archive by STOW-RS; ours asks first what is there, and verifies each by QIDO-RS."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

import pydicom
from dicomweb_client.api import DICOMwebClient
from rows_of_delivery import held
from studies import slices
from support.machine.dicom_programs import dcmsend, orthanc, program
from table import Row

from pipeline.destinations import from_table
from pipeline.model import Consignment, InstanceKey, Item

BATCH = 16  # instances in a request of dicomweb-client, as many as ours has


def _by_curl(url: str, files: list[Path]) -> None:
    """Send one request for each instance, as a hook with curl does."""
    for file in files:
        head, end = b"--b\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--b--\r\n"
        kind = 'Content-Type: multipart/related; type="application/dicom"; boundary=b'
        argv = [
            program("curl"),
            "-sf",
            "-H",
            kind,
            "-H",
            "Accept: application/dicom+json",
            "--data-binary",
            "@-",
            url,
        ]
        subprocess.run(argv, input=head + file.read_bytes() + end, check=True, capture_output=True)


def _by_dicomweb_client(url: str, files: list[Path]) -> None:
    client = DICOMwebClient(url.removesuffix("/studies"))
    for at in range(0, len(files), BATCH):
        client.store_instances([pydicom.dcmread(file) for file in files[at : at + BATCH]])


def _by_us(url: str, files: list[Path]) -> None:
    items = tuple(_item(file) for file in files)
    destination = from_table({"name": "archive", "kind": "stow", "url": url})
    receipts = destination.deliver(Consignment(1, items[0].key.study_instance_uid, items))
    assert sum(receipt.verified for receipt in receipts) == len(items)


def _item(path: Path) -> Item:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return Item(
        key=InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID),
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        sop_class_uid=str(header.SOPClassUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        calling_ae_title="BENCH",
        called_ae_title="STORESTOW",
        institution=None,
    )


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    instances, numbers = 10 if small else 100, count()
    with orthanc(folder / "archive") as archive:

        def timed(send: Callable[[list[Path]], object]) -> float:
            (study,) = slices(folder / f"study{next(numbers)}", instances)
            files, before = sorted(study.iterdir()), held(archive)
            began = perf_counter()
            send(files)
            took = perf_counter() - began
            assert held(archive) == before + instances
            return took

        yield {
            "dcmsend": lambda: timed(lambda files: dcmsend(archive.dicom_port, *files)),
            "curl, a request an instance": lambda: timed(lambda files: _by_curl(archive.studies, files)),
            "dicomweb-client": lambda: timed(lambda files: _by_dicomweb_client(archive.studies, files)),
            "ours, verified": lambda: timed(lambda files: _by_us(archive.studies, files)),
        }


ROW = Row("100 CT to an archive by STOW-RS", _contenders, {}, seconds=30)
