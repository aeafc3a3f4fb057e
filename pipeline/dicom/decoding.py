"""Decode an instance to Explicit VR Little Endian, for whoever takes nothing else: a peer, a CD's profile.

Pixels come back as they were before they were encoded; what was lost before stays lost, and stays marked so.
Every other value keeps its bytes (`pipeline.dicom.pixels.transcription`). Made for the pool's processes: what
a peer sent must not take down more than the process that decodes it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.dicom.encodings import NotEncoded
from pipeline.dicom.header import file_meta, read_header, with_rest
from pipeline.dicom.part10 import PIXEL_DATA, Bytes, DataSetLayout, Malformed
from pipeline.dicom.pixels import jpeg
from pipeline.dicom.pixels.encapsulation import STALE
from pipeline.dicom.pixels.implicit import without_vr
from pipeline.dicom.pixels.transcription import transcribed
from pipeline.dicom.reading import data_set_of
from pipeline.errors import Permanent

Samples = npt.NDArray[np.generic]

LITTLE_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
NATIVE = LITTLE_NATIVE | {"1.2.840.10008.1.2.2"}
LONGEST = 2**32 - 2  # bytes of Pixel Data: its length has 32 bits, and all ones mean "undefined" (PS3.5 7.1.1)
METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}  # PS3.3 C.7.6.1.1.5.1
# What pydicom and the decoders raise for frames that make no sense, or that they do not know.
UNDECODABLE = (ValueError, TypeError, RuntimeError, AttributeError, LookupError, ArithmeticError)


class NotDecoded(Permanent):
    """Say why an instance cannot be had in Explicit VR Little Endian."""


@dataclass(frozen=True, slots=True)
class DecodingTask:
    """What to decode, and where to: `target` is written, whatever lay there. `scratch` is for inflating.

    `implicit` asks for Implicit VR Little Endian instead, which every peer has to take (PS3.5 10.1).
    """

    source: Path
    target: Path
    scratch: Path | None = None
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """A whole Part 10 file in Explicit VR Little Endian: `size` in bytes, hash of the file."""

    path: Path
    sha256: str
    size: int
    transfer_syntax_before: str
    is_lossy: bool  # Lossy Image Compression says so, or now does


def decode(task: DecodingTask) -> Decoded:
    """Write `task.source` in Explicit VR Little Endian to `task.target`; the same input gives the same bytes.

    Holds the compressed pixels and one frame; of an instance without compressed pixels, all of it.

    Raises:
        NotDecoded: nobody here can, or the frames are not what the data set says. `target` is then of no use.
    """
    try:
        with data_set_of(task.source, task.scratch) as (data, layout):
            return _decoded(task, data, layout)
    except Malformed as malformed:
        raise NotDecoded(f"it cannot be decoded: {malformed}") from malformed
    except NotEncoded as reason:
        raise NotDecoded(f"it cannot be written in Explicit VR Little Endian: {reason}") from reason


def _decoded(task: DecodingTask, data: Bytes, layout: DataSetLayout) -> Decoded:
    if layout.transfer_syntax_uid in NATIVE or layout.pixels is None:
        whole = _native(data, layout)
        pieces = iter((_opening(whole, implicit=task.implicit), _encoded(whole, implicit=task.implicit)))
    else:
        picture = _Picture(data, layout)
        whole = picture.data_set
        pieces = picture.pieces(implicit=task.implicit)
    sha256, size = hashlib.sha256(), 0
    with task.target.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            sha256.update(piece)
            size += len(piece)
    is_lossy = str(whole.get("LossyImageCompression", "")) == "01"
    return Decoded(task.target, sha256.hexdigest(), size, layout.transfer_syntax_uid, is_lossy)


def frames_of(header: Dataset, data: Bytes, layout: DataSetLayout) -> Iterator[Samples]:
    """Yield each frame as rows, columns and, in colour, samples: whatever syntax it is in, colours are RGB.

    Raises:
        NotDecoded: nobody here can, or the frames are not what the data set says.
    """
    syntax = layout.transfer_syntax_uid
    pixels = layout.pixels
    if syntax in NATIVE and pixels is not None and not pixels.undefined_length:
        source = _described(header, data[pixels.value : pixels.end], (pixels.vr or b"OW").decode("latin-1"))
    else:
        _Shape.of(header)
        source = _compressed(header, data, layout)
    try:
        for array, _ in _decoder(syntax).iter_array(
            source,
            raw=syntax in jpeg.JPEG_LOSSY,  # which become RGB where they are decoded
            decoding_plugin="" if syntax in NATIVE else jpeg.plugin_for(syntax),
            correct_unused_bits=False,
            apply_jls_sign_correction=False,
        ):
            yield array
    except UNDECODABLE as error:
        raise NotDecoded(f"its pixels cannot be decoded ({type(error).__name__})") from error


def _native(data: Bytes, layout: DataSetLayout) -> Dataset:
    whole = read_dataset(
        BytesIO(data[layout.data_set : layout.end]),
        is_implicit_VR=not layout.explicit,
        is_little_endian=layout.little_endian,
    )
    result = transcribed(whole)
    result.file_meta = read_header(data, layout).file_meta
    return result


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the data set promises of its pixels."""

    frames: int
    frame_length: int  # bytes when decoded
    bits_allocated: int
    bits_stored: int

    @property
    def length(self) -> int:
        """Tell the bytes of all frames."""
        return self.frames * self.frame_length

    @classmethod
    def of(cls, header: Dataset) -> "_Shape":
        """Read it, or raise NotDecoded."""
        try:
            bits, stored = int(header.BitsAllocated), int(header.BitsStored)
            frames = int(header.get("NumberOfFrames") or 1)
            frame_length = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * bits // 8
        except UNDECODABLE as error:
            raise NotDecoded("the attributes that describe its pixels are missing or absurd") from error
        if bits not in {8, 16, 32}:
            raise NotDecoded(f"compressed pixels of {bits} bits are not decoded here")
        if frames < 1 or not 0 < frames * frame_length <= LONGEST:
            raise NotDecoded(f"its pixels are {frames * frame_length} bytes when decoded, which fit no element")
        return cls(frames, frame_length, bits, stored)


class _Picture:
    """An instance with compressed pixels: its data set without them, and its frames, one decoded at a time."""

    def __init__(self, data: Bytes, layout: DataSetLayout) -> None:
        header = read_header(data, layout)
        self._syntax = layout.transfer_syntax_uid
        self._compressed = _compressed(header, data, layout)
        self._shape = _Shape.of(header)
        self._has_lost = self._says_it_lost()
        self._frames = self._decoded_frames()
        self._first, said = next(self._frames)
        self.data_set = transcribed(with_rest(header, data, layout))
        self.data_set.file_meta = header.file_meta
        self._follow(said["samples_per_pixel"])

    def pieces(self, *, implicit: bool) -> Iterator[bytes]:
        """Yield the file, little endian, in explicit or implicit VR."""
        yield _opening(self.data_set, implicit=implicit)
        yield _encoded(self.data_set[:PIXEL_DATA], implicit=implicit)
        length = self._shape.length
        vr = b"" if implicit else b"OW\0\0" if self._shape.bits_allocated > 8 else b"OB\0\0"  # PS3.5 A.2
        yield b"\xe0\x7f\x10\x00" + vr + pack("<L", length + length % 2)
        yield self._first
        for frame, _ in self._frames:
            yield frame
        yield b"\0" * (length % 2)
        yield _encoded(self.data_set[PIXEL_DATA + 1 :], implicit=implicit)

    def _decoded_frames(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield each frame's bytes with what the decoder says of them; as many as promised, each as long."""
        left = self._shape.frames
        try:
            for array, said in _decoder(self._syntax).iter_array(
                self._compressed,
                raw=True,
                decoding_plugin=jpeg.plugin_for(self._syntax),
                correct_unused_bits=False,  # what lies there was encoded, too: an overlay, perhaps
                apply_jls_sign_correction=False,  # likewise
            ):
                left -= 1
                frame = self._in_words(array)
                if len(frame) != self._shape.frame_length:
                    break
                yield frame, said
        except UNDECODABLE as error:
            raise NotDecoded(f"its compressed pixels cannot be decoded ({type(error).__name__})") from error
        if left:
            raise NotDecoded("its compressed pixels are not the frames that its attributes describe")

    def _in_words(self, array: Samples) -> bytes:
        """Return samples in words of Bits Allocated; what a lossy process threw out of range is put into it."""
        bits, stored = self._shape.bits_allocated, self._shape.bits_stored
        words = np.dtype(f"<{array.dtype.kind}{bits // 8}")
        if self._has_lost and 0 < stored < bits:
            low = -(1 << stored - 1) if array.dtype.kind == "i" else 0
            return np.clip(array.astype(np.int64), low, low + (1 << stored) - 1).astype(words).tobytes()
        return array.astype(words, casting="safe").tobytes()

    def _colours(self) -> str:
        """Return what the samples of a colour instance are once decoded (PS3.3 C.7.6.3.1.2)."""
        before = str(self.data_set.get("PhotometricInterpretation", ""))
        if self._syntax in jpeg.JPEG_LOSSY or before in {"YBR_ICT", "YBR_RCT"}:
            return "RGB"
        return "YBR_FULL" if before == "YBR_FULL_422" else before  # a decoder gives every sample its colours

    def _says_it_lost(self) -> bool:
        """Tell by the first frame; PS3.3 C.7.6.1.1.5 asks for the mark, and not every sender sets it."""
        try:
            first = next(generate_frames(self._compressed.PixelData, number_of_frames=self._shape.frames))
            return jpeg.is_lossy(first, self._syntax)
        except (*UNDECODABLE, StopIteration) as error:
            raise NotDecoded("its compressed pixels cannot be told apart into frames") from error

    def _follow(self, samples: int) -> None:
        """Change the attributes that must follow the pixels, and mark what was lost."""
        for keyword in STALE:
            if keyword in self.data_set:
                del self.data_set[keyword]
        changes: dict[str, Any] = {}
        if samples > 1:
            changes = {"PhotometricInterpretation": self._colours(), "PlanarConfiguration": 0}
        if self._has_lost and "LossyImageCompression" not in self.data_set:
            changes |= {"LossyImageCompression": "01", "LossyImageCompressionMethod": METHODS[self._syntax]}
            changes["LossyImageCompressionRatio"] = f"{self._shape.length / len(self._compressed.PixelData):.2f}"
        for keyword, value in changes.items():
            self.data_set.add(DataElement(keyword, dictionary_VR(keyword), value))


def _compressed(header: Dataset, data: Bytes, layout: DataSetLayout) -> Dataset:
    """Return what pydicom needs to know of the pixels, and nothing else."""
    pixels = layout.pixels
    if pixels is None or pixels.tag != PIXEL_DATA or not pixels.undefined_length:
        raise NotDecoded("its pixels are not compressed as its transfer syntax says")
    source = _described(header, data[pixels.value : pixels.end], "OB")
    if "PlanarConfiguration" in source:  # of what was compressed; a codestream holds no planes (PS3.5 8.2.4)
        source.add(DataElement("PlanarConfiguration", "US", 0))
    return source


def _described(header: Dataset, pixels: bytes, vr: str) -> Dataset:
    source = header.group_dataset(0x0028)
    source.update(header.group_dataset(0x7FE0))
    source.file_meta = header.file_meta
    source.add(DataElement(PIXEL_DATA, vr, pixels))
    return source


def _decoder(transfer_syntax_uid: str) -> Any:
    uid = UID(transfer_syntax_uid)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise NotDecoded(f"{uid.name} is not decoded here") from error
    if uid in jpeg.DECODER_DEPENDENCIES and "imagecodecs" not in decoder.available_plugins:
        decoder.add_plugin("imagecodecs", (jpeg.__name__, jpeg.decode_frame.__name__))
    return decoder


def _opening(data_set: Dataset, *, implicit: bool) -> bytes:
    """Return preamble and file meta information."""
    if "SOPClassUID" not in data_set or "SOPInstanceUID" not in data_set:
        raise NotDecoded("it does not say what it is: SOP Class UID or SOP Instance UID is missing")
    buffer = DicomBytesIO()
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    write_file_meta_info(buffer, file_meta(data_set, syntax))
    return b"\0" * 128 + b"DICM" + buffer.getvalue()


def _encoded(data_set: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, without_vr(data_set) if implicit else data_set)
    return buffer.getvalue()
