"""Copies that an archive holds although we never sent them."""

from pathlib import Path

import pydicom
from support.peers.fake_dcm4chee import FakeDcm4chee


def content(path: Path, **attributes: object) -> bytes:
    """Return the file with other values of these attributes, under the same UIDs."""
    data_set = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    other = path.with_suffix(".other")
    data_set.save_as(other, enforce_file_format=True)
    return other.read_bytes()


def held(archive: FakeDcm4chee, item, theirs: bytes) -> None:
    key = item.key
    archive.add(key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid, theirs)
