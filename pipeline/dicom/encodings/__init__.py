"""The encodings a destination may ask for: one file a codec, its name the word in `encode = "..."`.

An encoding is a module with `TRANSFER_SYNTAX_UID`, `encode` and `why_not`; `none` has none of them, because it
encodes nothing. Every encoder decodes its own result again: frames that do not come back equal are never sent.
`pipeline.dicom.pixels.encapsulation.attach` puts the frames into the data set.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pydicom import Dataset


class NotEncoded(Exception):  # This is an outcome and no error: the instance passes through unchanged.
    """Say why an instance keeps the transfer syntax it came in; the text is the reason in the ledger."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The frames that replace Pixel Data, proven equal to it by decoding them again.

    `frames` are the compressed frames in order, one fragment each; `attributes` maps keywords to the values that
    must follow the pixels (None removes); lengths in bytes; hashes are of Pixel Data as received, without the
    padding byte (docs/private-block.md). `pixel_vr` is the VR Pixel Data had, None if unknown.
    """

    transfer_syntax_uid: str
    frames: tuple[bytes, ...]
    attributes: dict[str, object]
    pixel_length: int
    pixel_md5: str
    pixel_sha256: str
    pixel_vr: str | None = None


class Encode(Protocol):
    """Encode Pixel Data, or raise NotEncoded; `pixel_vr` is the VR as received (needed for big endian)."""

    def __call__(self, header: "Dataset", pixels: bytes, pixel_vr: str | None = None) -> Encoded:
        """Return the frames; each was decoded again and came back equal."""


def names() -> list[str]:
    """Return the names of the encodings: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def named(name: str) -> Encode | None:
    """Return the function that encodes, or None for `none`."""
    module = importlib.import_module(f"{__name__}.{name}")
    encode: Encode | None = getattr(module, "encode", None)
    return encode


def transfer_syntax_of(name: str) -> str | None:
    """Return the UID of the transfer syntax that the encoding makes, None for `none`."""
    uid: str | None = getattr(importlib.import_module(f"{__name__}.{name}"), "TRANSFER_SYNTAX_UID", None)
    return uid


def transfer_syntax_name(uid: str) -> str:
    """Return the name of a transfer syntax in PS3.6 table A-1."""
    from pydicom.uid import UID  # noqa: PLC0415  # what only reads which encodings there are need not load pydicom

    return str(UID(uid).name)


def why_not(name: str, header: "Dataset", pixel_length: int, pixel_vr: str | None) -> str | None:
    """Tell from the header alone why `name` leaves this instance unchanged, or None if encoding may be tried.

    This cheap call avoids reading Pixel Data, which has `pixel_length` bytes and the VR `pixel_vr`.
    """
    reason: str | None = importlib.import_module(f"{__name__}.{name}").why_not(header, pixel_length, pixel_vr)
    return reason
