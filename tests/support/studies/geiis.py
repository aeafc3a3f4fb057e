"""Objects with GE's thumbnail: (0009,xx10) under the creator GEIIS, as its workstations send them."""

import io

from pydicom import Dataset, Sequence
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

JPEG = b"\xff\xd8\xff\xe0thumbnail\xff\xd9"


def ct(uid: str = "1.2.826.0.1.3680043.8.498.1") -> Dataset:
    """A CT image of four pixels, uncompressed, in ISO_IR 100."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{uid}.3"
    dataset.StudyDate = "20260102"
    dataset.AccessionNumber = "A1"
    dataset.Modality = "CT"
    dataset.InstitutionName = "Old Name"
    dataset.ReferringPhysicianName = ""
    dataset.PatientName = "Müller^Jörg"
    dataset.PatientID = "4711"
    dataset.StudyInstanceUID = f"{uid}.1"
    dataset.SeriesInstanceUID = f"{uid}.2"
    dataset.StudyID = "7"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = b"\1\0\2\0\3\0\4\0"
    return dataset


def with_thumbnail(block: int = 0x10, *, creator: str = "GEIIS", length_is_known: bool = False) -> Dataset:
    """A CT whose thumbnail, compressed pixels in an uncompressed data set, lies in the given private block."""
    dataset = ct()
    add_thumbnail(dataset, block, creator=creator, length_is_known=length_is_known)
    return dataset


def add_thumbnail(dataset: Dataset, block: int, *, creator: str = "GEIIS", length_is_known: bool = False) -> None:
    """Add creator and thumbnail to `dataset`."""
    icon = Dataset()
    icon.SamplesPerPixel = 1
    icon.PhotometricInterpretation = "MONOCHROME2"
    icon.Rows = icon.Columns = 64
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit = 7
    icon.PixelRepresentation = 0
    icon.PixelData = encapsulate([JPEG])
    icon["PixelData"].VR = "OB"
    icon["PixelData"].is_undefined_length = True
    icon.is_undefined_length_sequence_item = not length_is_known
    dataset.add_new(0x00090000 | block, "LO", creator)
    tag = 0x00090010 | block << 8
    dataset.add(DataElement(tag, "SQ", Sequence([icon]), is_undefined_length=not length_is_known))


def file_of(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a Part 10 file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
