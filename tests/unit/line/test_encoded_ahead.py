"""Pixels encoded before their study is complete: found again by what they were made of, and by nothing less."""

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.sites.line_site import instance
from support.sites.preparing import task_of

from pipeline.dicom.encodings import j2k, none
from pipeline.line import encoded_ahead
from pipeline.line.encoded_ahead import AheadTask, encode_ahead
from pipeline.line.prepare import prepare


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "ahead"
    folder.mkdir()
    return folder


def ahead_of(file: Path, store: Path, *names: str) -> int:
    return encode_ahead(AheadTask(file, names or ("j2k",), store, store.parent))


def taken(file: Path, store: Path, **attributes):
    """Return what `encoded` gives for a file, with some attributes of its header as a rule has set them."""
    data_set = pydicom.dcmread(file)
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return encoded_ahead.encoded(store, "j2k", data_set, data_set.PixelData, "OW")


@pytest.fixture
def counted(monkeypatch):
    """Return a list that grows by one with each time pixels are really encoded."""
    calls, encode = [], j2k.encode

    def counting(*arguments):
        calls.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(j2k, "encode", counting)
    return calls


@pytest.mark.parametrize("name", ["CT_small.dcm", "examples_rgb_color.dcm", "MR_small_bigendian.dcm"])
def test_what_was_made_ahead_is_what_would_be_made_now(name, tmp_path, store, counted):
    file = instance(tmp_path, source=name)
    now = prepare(task_of(file, tmp_path, "j2k"))
    task = task_of(file, tmp_path / "again", "j2k")
    task.target.parent.mkdir()
    assert ahead_of(file, store) == 1
    before = len(counted)
    ahead = prepare(encoded_from(task, store))
    assert len(counted) == before
    assert [(o.sha256, o.transfer_syntax_uid) for o in ahead.outputs] == [
        (o.sha256, o.transfer_syntax_uid) for o in now.outputs
    ]
    assert (ahead.pixel_md5, ahead.pixel_sha256, ahead.encoded_length) == (
        now.pixel_md5,
        now.pixel_sha256,
        now.encoded_length,
    )
    assert list(store.iterdir()) == []


def encoded_from(task, store: Path):
    from dataclasses import replace

    return replace(task, ahead=store)


def test_one_changed_byte_of_the_pixels_is_other_pixels(tmp_path, store, counted):
    file = instance(tmp_path)
    ahead_of(file, store)
    data_set = pydicom.dcmread(file)
    data_set.PixelData = bytes([data_set.PixelData[0] ^ 1]) + data_set.PixelData[1:]
    data_set.save_as(file)
    before = len(counted)
    taken(file, store)
    assert len(counted) == before + 1


def test_pixels_that_a_rule_has_described_otherwise_are_encoded_again(tmp_path, store, counted):
    file = instance(tmp_path)
    ahead_of(file, store)
    before = len(counted)
    assert taken(file, store, PixelRepresentation=0, BitsStored=16, HighBit=15)
    assert len(counted) == before + 1


def test_other_versions_of_the_codec_are_not_believed(tmp_path, store, counted, monkeypatch):
    file = instance(tmp_path)
    ahead_of(file, store)
    monkeypatch.setattr(encoded_ahead, "_versions", lambda: "imagecodecs-0")
    before = len(counted)
    taken(file, store)
    assert len(counted) == before + 1


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit"])
def test_what_a_power_cut_has_left_is_made_again(damage, tmp_path, store, counted):
    file = instance(tmp_path)
    ahead_of(file, store)
    (kept,) = store.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(
        {"cut": whole[:-100], "empty": b"", "one bit": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]}[damage]
    )
    before = len(counted)
    assert taken(file, store).frames
    assert len(counted) == before + 1


@pytest.mark.parametrize("source", ["MR_small_RLE.dcm", "rtplan.dcm", "MR_truncated.dcm"])
def test_what_is_not_encoded_leaves_nothing(source, tmp_path, store):
    file = tmp_path / "file"
    file.write_bytes(Path(get_testdata_file(source)).read_bytes())
    assert ahead_of(file, store) == 0
    assert list(store.iterdir()) == []


def test_half_a_file_and_no_file_are_nobodys_error(tmp_path, store):
    file = instance(tmp_path)
    file.write_bytes(file.read_bytes()[:20_000])
    assert ahead_of(file, store) == 0
    assert ahead_of(tmp_path / "gone", store) == 0
    assert list(store.iterdir()) == []


def test_none_encodes_nothing(tmp_path, store):
    assert not hasattr(none, "encode")
    assert ahead_of(instance(tmp_path), store, "none") == 0
