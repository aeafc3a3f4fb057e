"""Decode an instance to Explicit VR Little Endian, for a peer or a disc that accepts no other syntax.

Pixels come back as they were before encoding; what lossy compression removed stays lost, and stays marked as
lost. Every other value keeps its bytes (`pipeline.dicom.pixels.transcription`). This code runs in the pool's
processes, so that a malformed frame ends only the process that decodes it.
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
from pipeline.dicom.header import file_meta, read_header, rest_of, with_rest
from pipeline.dicom.part10 import PIXEL_DATA, Bytes, DataSetLayout, Malformed
from pipeline.dicom.pixels import jpeg
from pipeline.dicom.pixels.encapsulation import STALE
from pipeline.dicom.pixels.transcription import transcribed, without_vr
from pipeline.dicom.reading import data_set_of
from pipeline.errors import Permanent
from pipeline.model import LeftOutCode

Samples = npt.NDArray[np.generic]

LITTLE_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
NATIVE = LITTLE_NATIVE | {"1.2.840.10008.1.2.2"}
# Largest Pixel Data in bytes: the length has 32 bits, and FFFFFFFF means "undefined" (PS3.5 7.1.1).
LONGEST = 2**32 - 2
METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}  # PS3.3 C.7.6.1.1.5.1
# pydicom and the decoders raise these for malformed or unknown frames.
UNDECODABLE = (ValueError, TypeError, RuntimeError, AttributeError, LookupError, ArithmeticError)


class NotDecoded(Permanent):
    """Say why an instance cannot be converted to Explicit VR Little Endian, in words and by a code."""

    def __init__(self, message: str, code: LeftOutCode = LeftOutCode.COMPRESSED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class DecodingTask:
    """Which file to decode and where to: `target` is overwritten; `scratch` is a folder for inflated data sets.

    `implicit` asks for Implicit VR Little Endian instead, which every peer must accept (PS3.5 10.1).
    """

    source: Path
    target: Path
    scratch: Path | None = None
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """A complete Part 10 file in Explicit VR Little Endian: `size` in bytes, SHA-256 of the file."""

    path: Path
    sha256: str
    size: int
    transfer_syntax_before: str
    is_lossy: bool  # Lossy Image Compression says so, before or after decoding.


def decode(task: DecodingTask) -> Decoded:
    """Write `task.source` in Explicit VR Little Endian to `task.target`; the same input gives the same bytes.

    Memory: the compressed pixels and one frame; for an instance without compressed pixels, the whole data set.

    Raises:
        NotDecoded: no decoder here reads the frames, or they contradict the data set. Discard `target`.
    """
    try:
        with data_set_of(task.source, task.scratch) as (data, layout):
            return _decoded(task, data, layout)
    except Malformed as malformed:
        raise NotDecoded(f"it cannot be decoded: {malformed}", LeftOutCode.DAMAGED) from malformed
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
    """Yield each frame as (rows, columns) or, in colour, (rows, columns, samples), with colours as RGB.

    Raises:
        NotDecoded: no decoder here reads the frames, or they contradict the data set.
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
            raw=syntax in jpeg.JPEG_LOSSY,  # The decoder turns these into RGB.
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
    """The number and size of the frames, as the data set describes them."""

    frames: int
    frame_length: int  # Length of a decoded frame in bytes.
    bits_allocated: int
    bits_stored: int

    @property
    def length(self) -> int:
        """Return the length of all frames in bytes."""
        return self.frames * self.frame_length

    @classmethod
    def of(cls, header: Dataset) -> "_Shape":
        """Read the shape from `header`, or raise NotDecoded."""
        try:
            bits, stored = int(header.BitsAllocated), int(header.BitsStored)
            frames = int(header.get("NumberOfFrames") or 1)
            frame_length = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * bits // 8
        except UNDECODABLE as error:
            words = "the attributes that describe its pixels are missing or absurd"
            raise NotDecoded(words, LeftOutCode.DAMAGED) from error
        if bits not in {8, 16, 32}:
            raise NotDecoded(f"compressed pixels of {bits} bits are not decoded here")
        if frames < 1 or not 0 < frames * frame_length <= LONGEST:
            words = f"its pixels are {frames * frame_length} bytes when decoded, which fit no element"
            raise NotDecoded(words, LeftOutCode.LARGE if frames > 0 < frame_length else LeftOutCode.DAMAGED)
        return cls(frames, frame_length, bits, stored)


class _Picture:
    """An instance with compressed pixels: its data set without them, and its frames, decoded one at a time."""

    def __init__(self, data: Bytes, layout: DataSetLayout) -> None:
        header = read_header(data, layout)
        self._syntax = layout.transfer_syntax_uid
        self._compressed = _compressed(header, data, layout)
        self._shape = _Shape.of(header)
        self._has_lost = self._says_it_lost()
        self._frames = self._decoded_frames()
        self._first, said = next(self._frames)
        self.data_set = transcribed(with_rest(header, rest_of(data, layout)))
        self.data_set.file_meta = header.file_meta
        self._follow(said["samples_per_pixel"])

    def pieces(self, *, implicit: bool) -> Iterator[bytes]:
        """Yield the file in little endian, explicit or implicit VR, piece by piece."""
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
        """Yield each frame's bytes and the decoder's description; check their number and lengths."""
        left = self._shape.frames
        try:
            for array, said in _decoder(self._syntax).iter_array(
                self._compressed,
                raw=True,
                decoding_plugin=jpeg.plugin_for(self._syntax),
                correct_unused_bits=False,  # The unused bits were encoded too; they may hold an overlay.
                apply_jls_sign_correction=False,  # Keep the samples as encoded here, too.
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
        """Return samples in words of Bits Allocated; clip values that a lossy process put out of range."""
        bits, stored = self._shape.bits_allocated, self._shape.bits_stored
        words = np.dtype(f"<{array.dtype.kind}{bits // 8}")
        if self._has_lost and 0 < stored < bits:
            low = -(1 << stored - 1) if array.dtype.kind == "i" else 0
            return np.clip(array.astype(np.int64), low, low + (1 << stored) - 1).astype(words).tobytes()
        return array.astype(words, casting="safe").tobytes()

    def _colours(self) -> str:
        """Return the Photometric Interpretation of a colour instance once it is decoded (PS3.3 C.7.6.3.1.2)."""
        before = str(self.data_set.get("PhotometricInterpretation", ""))
        if self._syntax in jpeg.JPEG_LOSSY or before in {"YBR_ICT", "YBR_RCT"}:
            return "RGB"
        # A decoder gives every sample its own colour values.
        return "YBR_FULL" if before == "YBR_FULL_422" else before

    def _says_it_lost(self) -> bool:
        """Tell from the first frame whether compression was lossy; senders may omit the mark.

        The mark is Lossy Image Compression (PS3.3 C.7.6.1.1.5).
        """
        try:
            first = next(generate_frames(self._compressed.PixelData, number_of_frames=self._shape.frames))
            return jpeg.is_lossy(first, self._syntax)
        except (*UNDECODABLE, StopIteration) as error:
            raise NotDecoded("its compressed pixels cannot be told apart into frames") from error

    def _follow(self, samples: int) -> None:
        """Change the attributes that depend on the pixels, and mark lossy compression."""
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
    """Return a data set with the attributes pydicom needs to decode the pixels, and no others."""
    pixels = layout.pixels
    if pixels is None or pixels.tag != PIXEL_DATA or not pixels.undefined_length:
        raise NotDecoded("its pixels are not compressed as its transfer syntax says")
    source = _described(header, data[pixels.value : pixels.end], "OB")
    # Planar Configuration described the encoder's input; a codestream holds no planes (PS3.5 8.2.4).
    if "PlanarConfiguration" in source:
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
        words = "it does not say what it is: SOP Class UID or SOP Instance UID is missing"
        raise NotDecoded(words, LeftOutCode.DAMAGED)
    buffer = DicomBytesIO()
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    write_file_meta_info(buffer, file_meta(data_set, syntax))
    return b"\0" * 128 + b"DICM" + buffer.getvalue()


def _encoded(data_set: Dataset, *, implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, without_vr(data_set) if implicit else data_set)
    return buffer.getvalue()
