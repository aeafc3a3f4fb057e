"""Keep Pixel Data that was encoded and proved before its study is complete, until the instance is prepared.

A result is found by what it was made of: the codec with its versions, the layout of the pixels and every byte of
them. So it is used only for the very pixels for which it was proved; if the header was corrected meanwhile, or the
file has grown, no result is found, and the pixels are encoded again. Each file ends with a hash of all bytes
before, so that a part of a file is never taken for the whole.
"""

import contextlib
import functools
import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import BytesLengthException

from pipeline.dicom import encodings, part10
from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.header import read_header
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.pixels.layout import PixelLayout
from pipeline.dicom.reading import data_set_of
from pipeline.spool.durable import rename, unlink

_FORMAT = 1
_LIBRARIES = ("imagecodecs", "pylibjpeg-openjpeg")  # Another version may encode in another way.
_DIGEST = hashlib.sha256().digest_size
_META_SIZE = 4  # Bytes of the length of the JSON that describes the frames.


@dataclass(frozen=True, slots=True)
class AheadTask:
    """A received file whose pixels are to be encoded, the encodings, and the folder `store` for the results."""

    source: Path
    encodings: tuple[str, ...]
    store: Path
    scratch: Path


def encode_ahead(task: AheadTask) -> int:
    """Encode and keep the pixels of one file; return how many encodings of it are kept.

    A file that cannot be read or encoded is left; when the instance is prepared, the reason is reported.
    """
    kept = 0
    with (
        contextlib.suppress(Malformed, OSError, ValueError),
        data_set_of(task.source, task.scratch) as (data, layout),
    ):
        element = layout.pixels
        if element is None or element.tag != part10.PIXEL_DATA or element.undefined_length:
            return 0
        header, vr = read_header(data, layout), element.vr.decode("ascii") or "OW"  # PS3.5 A.1
        for name in task.encodings:
            with contextlib.suppress(NotEncoded, *_SENSELESS):
                kept += _kept(task.store, name, header, data[element.value : element.end], vr)
    return kept


def _kept(store: Path, name: str, header: Dataset, pixels: bytes, vr: str) -> bool:
    encode = encodings.named(name)
    if encode is None or encodings.why_not(name, header, len(pixels), vr):
        return False
    path = _path(store, name, header, pixels, vr)
    if not path.exists():
        _write(path, encode(header, pixels, vr))
    return True


def encoded(store: Path | None, name: str, header: Dataset, pixels: bytes, pixel_vr: str) -> Encoded:
    """Return Pixel Data in the encoding `name`: the result made ahead, which is then deleted, or one made now.

    Raises:
        NotEncoded: as the encoding does.
    """
    encode = encodings.named(name)
    assert encode is not None
    if store is None:
        return encode(header, pixels, pixel_vr)
    path = _path(store, name, header, pixels, pixel_vr)
    try:
        if made := _read(path):
            return made
    finally:
        unlink(path, missing_ok=True)
    return encode(header, pixels, pixel_vr)


def _path(store: Path, name: str, header: Dataset, pixels: bytes, vr: str) -> Path:
    layout = PixelLayout.of(header, vr)
    made_of = hashlib.sha256(f"{_FORMAT} {name} {_versions()} {vr} {layout!r} ".encode())
    made_of.update(pixels)
    return store / f"{made_of.hexdigest()}.{name}"


@functools.cache
def _versions() -> str:
    return " ".join(f"{library}-{version(library)}" for library in _LIBRARIES)


def _write(path: Path, made: Encoded) -> None:
    """Write a file and rename it; it is not flushed, because a file that a power cut damages is made again."""
    meta = json.dumps(
        {
            "transfer_syntax_uid": made.transfer_syntax_uid,
            "attributes": made.attributes,
            "pixel_length": made.pixel_length,
            "pixel_md5": made.pixel_md5,
            "pixel_sha256": made.pixel_sha256,
            "pixel_vr": made.pixel_vr,
            "frames": [len(frame) for frame in made.frames],
        }
    ).encode()
    pieces = (len(meta).to_bytes(_META_SIZE, "big"), meta, *made.frames)
    whole = hashlib.sha256()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                whole.update(piece)
                file.write(piece)
            file.write(whole.digest())
        rename(beside, path)
    finally:
        unlink(beside, missing_ok=True)


def _read(path: Path) -> Encoded | None:
    """Return a kept result, None if there is none or the file is not complete."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if len(data) <= _META_SIZE + _DIGEST or hashlib.sha256(body).digest() != digest:
        return None
    at = _META_SIZE + int.from_bytes(body[:_META_SIZE], "big")
    meta = json.loads(body[_META_SIZE:at])
    lengths = meta.pop("frames")
    return Encoded(frames=tuple(_frames(body, at, lengths)), **meta)


def _frames(body: bytes, at: int, lengths: list[int]) -> Iterator[bytes]:
    for length in lengths:
        yield body[at : at + length]
        at += length


# pydicom raises these when a malformed value is read.
_SENSELESS = (
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    BytesLengthException,
    EOFError,
)
