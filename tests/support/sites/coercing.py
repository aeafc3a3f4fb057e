"""What tests of coercion share: a sender, a site, a header as the line reads it, and how it is written."""

import io
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

from pipeline.dicom.attributes.elements import element_of, encoding_of
from pipeline.model import Origin
from pipeline.site.settings import Settings

ADMITTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def origin(calling_ae_title="CT1", *, peer=None, receiver="modalities", admitted_at=ADMITTED) -> Origin:
    return Origin(receiver, calling_ae_title, "STORESTOW", peer, admitted_at)


def site(folder: Path | str = "/nowhere", *, coercion=(), **keys) -> Settings:
    """Settings with these keys in [site] and these [[coercion]] tables."""
    table = {"folder": folder, "site": {"spool": "/nowhere/spool", **keys}, "coercion": list(coercion)}
    return Settings.model_validate(table)


def header(file: Path | bytes) -> Dataset:
    """The header of a file, as the line reads it; what pydicom has to say of it is not asked."""
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(source, stop_before_pixels=True, force=True)


def element_bytes(dataset: Dataset, tag: int) -> bytes:
    """One element as it will be written; nothing is decoded for it."""
    element = element_of(dataset, tag)
    if element.is_raw and element.value is None:
        element = element._replace(value=b"")
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = encoding_of(dataset)
    charset = dataset.original_character_set
    write_data_element(buffer, element, charset if isinstance(charset, str) else list(charset))
    return buffer.getvalue()


def header_bytes(dataset: Dataset) -> bytes:
    return b"".join(element_bytes(dataset, tag) for tag in sorted(dataset.keys()))


def reread(dataset: Dataset) -> Dataset:
    """The header after writing and reading it, with nothing left of what is in memory."""
    return header(as_file(dataset))


def as_file(dataset: Dataset) -> bytes:
    """The header as a file of its own, without pixels, in its own transfer syntax."""
    implicit, little = encoding_of(dataset)
    syntax = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(buffer, meta, enforce_standard=False)
    return buffer.getvalue() + header_bytes(dataset)
