"""Uncompressed instances of every layout, made from an array that the test knows: (header, pixels, VR)."""

import io
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from pipeline.dicom.encodings import Encoded, j2k
from pipeline.dicom.pixels.encapsulation import attach

EXPLICIT, IMPLICIT, BIG = ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian


@dataclass
class Native:
    """What a modality sends: `array` is (frames, rows, columns[, samples]) whatever the frames are."""

    rows: int = 4
    columns: int = 5
    samples: int = 1
    frames: int = 1
    allocated: int = 16
    stored: int = 12
    signed: bool = False
    photometric: str = ""
    planar: int = 0
    syntax: str = EXPLICIT
    vr: str = "OW"
    seed: int = 0
    more: Dataset = field(default_factory=Dataset)

    def __post_init__(self) -> None:
        shape = (self.frames, self.rows, self.columns) + ((self.samples,) if self.samples > 1 else ())
        low = -(1 << self.stored - 1) if self.signed else 0
        kind = f"{'i' if self.signed else 'u'}{self.allocated // 8}"
        random = np.random.default_rng(self.seed)
        self.array = random.integers(low, low + (1 << self.stored), shape).astype(kind)
        self.photometric = self.photometric or ("RGB" if self.samples == 3 else "MONOCHROME2")

    @property
    def pixels(self) -> bytes:
        """Return Pixel Data as it stands in the file, padded (PS3.5 8.1)."""
        laid = np.moveaxis(self.array, -1, 1) if self.planar and self.samples > 1 else self.array
        big = self.syntax == BIG
        data = laid.astype(laid.dtype.newbyteorder(">" if big else "<")).tobytes()
        data += b"\0" * (len(data) % 2)
        if big and self.allocated == 8 and self.vr == "OW":
            data = b"".join(data[at + 1 : at + 2] + data[at : at + 1] for at in range(0, len(data), 2))
        return data

    @property
    def header(self) -> Dataset:
        """Return the data set without Pixel Data, as read from a file: raw elements in its own encoding."""
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
        ds.SamplesPerPixel, ds.PhotometricInterpretation = self.samples, self.photometric
        if self.samples > 1:
            ds.PlanarConfiguration = self.planar
        if self.frames > 1:
            ds.NumberOfFrames = self.frames
        ds.Rows, ds.Columns = self.rows, self.columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = self.allocated, self.stored, self.stored - 1
        ds.PixelRepresentation = int(self.signed)
        ds.update(self.more)
        return reread(ds, self.syntax)


def reread(dataset: Dataset, syntax: str) -> Dataset:
    """Return the data set as pydicom reads it from a file of this transfer syntax."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return pydicom.dcmread(io.BytesIO(written(dataset)))


def written(dataset: Dataset) -> bytes:
    """Return the file."""
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def encoded(native: Native, codec: ModuleType = j2k) -> tuple[Encoded, Dataset]:
    """Encode, attach, write and read again."""
    header = native.header
    result = codec.encode(header, native.pixels, native.vr)
    return result, pydicom.dcmread(io.BytesIO(written(attach(header, result))))


def seen(dataset: Dataset, native: Native) -> np.ndarray:
    """Return what pydicom's decoder sees, in the shape of `native.array`."""
    return pixel_array(dataset, raw=True).reshape(native.array.shape)
