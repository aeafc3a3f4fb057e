"""Compare what was sent with what is kept and what arrived: by UIDs, pixels and every value, read by pydicom."""

import hashlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import requests
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array
from support.machine.dicom_programs import Orthanc
from support.peers.raw_sender import Object, object_of
from support.sites.running_site import RunningSite

FOLLOW_THE_PIXELS = {0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00010}
OUR_PRIVATE_GROUP = 0x0099
ORIGINAL_ATTRIBUTES = 0x04000561


class Key(NamedTuple):
    """What identifies an instance, as it stands in a data set; empty where the data set does not say."""

    study: str
    series: str
    sop: str


class Fingerprint(NamedTuple):
    """An instance's UIDs and the hash of its Pixel Data, or of all its bytes where it is no DICOM."""

    key: Key
    pixels: str


def data_set_of(one: Object) -> Dataset:
    """Return an object as pydicom reads it; raises whatever pydicom raises."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = one.sop_class
    meta.MediaStorageSOPInstanceUID = one.sop_instance
    meta.TransferSyntaxUID = one.transfer_syntax
    head = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(head, meta, enforce_standard=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(b"\0" * 128 + b"DICM" + head.getvalue() + one.data_set))


def fingerprint(one: Object) -> Fingerprint:
    """Return what tells an object from every other, whoever wrote it to a file since."""
    try:
        data_set = data_set_of(one)
        return Fingerprint(key_of(data_set), hashlib.sha256(pixel_bytes(data_set).rstrip(b"\0")).hexdigest())
    except Exception:  # garbage has no other name than its bytes
        return Fingerprint(Key("", "", ""), hashlib.sha256(one.data_set).hexdigest())


def key_of(data_set: Dataset) -> Key:
    values = (data_set.get(word) for word in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    return Key(*(str(value or "").strip(" \0") for value in values))


def pixel_bytes(data_set: Dataset) -> bytes:
    """Return the value of Pixel Data of any of the three kinds, encapsulated or not; empty without one."""
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in data_set:
            return bytes(data_set.get_item(keyword).value or b"")
    return b""


def are_same_pixels(sent: Dataset, arrived: Dataset) -> bool:
    """Say whether pixels are equal: byte by byte where nothing was encoded, else decoded by pydicom."""
    if sent.file_meta.TransferSyntaxUID.is_encapsulated or not arrived.file_meta.TransferSyntaxUID.is_encapsulated:
        return pixel_bytes(sent).rstrip(b"\0") == pixel_bytes(arrived).rstrip(b"\0")
    before, after = (pixel_array(one, raw=True) for one in (sent, arrived))
    return bool(before.shape == after.shape and np.array_equal(before, after))


def changed_values(sent: Dataset, arrived: Dataset) -> set[int]:
    """Return the tags of the top level whose values differ; pixels and what follows them are left out."""
    before, after = _values(sent), _values(arrived)
    return {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}


def _values(data_set: Dataset) -> dict[int, str]:
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in data_set.keys():  # noqa: SIM118 - not every value can be decoded
            if tag.element and tag.group != OUR_PRIVATE_GROUP and tag not in FOLLOW_THE_PIXELS:
                found[int(tag)] = _text(data_set, tag)
    return found


def _text(data_set: Dataset, tag: Any) -> str:
    try:
        value = data_set[tag].value
    except Exception:  # then the bytes must do
        value = data_set.get_item(tag).value
    return repr(value.rstrip(b"\0 ") if isinstance(value, bytes) else value) if value else ""


def received(site: RunningSite) -> dict[tuple[str, str], Object]:
    """Return every file the site keeps as an object, by arrival and file name."""
    return {(file.parent.name, file.name): object_of(file) for file in site.received()}


def archived(archive: Orthanc) -> dict[Key, Dataset]:
    """Return every stored file of an archive by its three UIDs; fails where one key is stored twice."""
    series = {one["ID"]: one for one in _expanded(archive, "series")}
    studies = {one["ID"]: one for one in _expanded(archive, "studies")}
    found: dict[Key, Dataset] = {}
    for one in _expanded(archive, "instances"):
        parent = series[one["ParentSeries"]]
        study = studies[parent["ParentStudy"]]
        key = Key(
            study["MainDicomTags"]["StudyInstanceUID"],
            parent["MainDicomTags"]["SeriesInstanceUID"],
            one["MainDicomTags"]["SOPInstanceUID"],
        )
        assert key not in found, f"{key} is stored twice"
        found[key] = read(archive.download(one["ID"]))
    return found


def read(content: bytes | Path) -> Dataset:
    """Return a DICOM file as pydicom reads it, warnings unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(content) if isinstance(content, bytes) else content)


def _expanded(archive: Orthanc, level: str) -> Iterable[dict[str, Any]]:
    answer = requests.get(f"{archive.rest}/{level}?expand", timeout=120)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
