"""Replace Pixel Data by encoded frames, and the attributes that describe it (PS3.5 A.4)."""

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from pipeline.dicom.encodings import Encoded
from pipeline.dicom.pixels import private_block
from pipeline.dicom.pixels.transcription import transcribed

STALE = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength")


def attach(dataset: Dataset, encoded: Encoded) -> Dataset:
    """Return a copy of `dataset` with `encoded` as its Pixel Data, ready for `dcmwrite`.

    One fragment a frame; the Basic Offset Table is filled. `dataset` is the data set `encoded` was made from,
    including everything after Pixel Data; it stays unchanged. Other attributes stay: private elements, Lossy Image
    Compression, ICC Profile.

    Raises:
        NotEncoded: the data set cannot be written in Explicit VR Little Endian without risk to a value.
    """
    result = transcribed(dataset)
    for keyword in STALE:
        if keyword in result:
            del result[keyword]
    for keyword, value in encoded.attributes.items():
        if value is not None:
            # The old element belongs to `dataset`, too.
            result.add(DataElement(keyword, dictionary_VR(keyword), value))
        elif keyword in result:
            del result[keyword]
    private_block.write(result, _account(dataset, encoded))
    result.add(_pixel_data(encoded))
    result.file_meta = FileMetaDataset()
    result.file_meta.update(dataset.file_meta)
    result.file_meta.add(DataElement("TransferSyntaxUID", "UI", encoded.transfer_syntax_uid))
    result.preamble = getattr(dataset, "preamble", None)
    return result


def _pixel_data(encoded: Encoded) -> DataElement:
    element = DataElement("PixelData", "OB", encapsulate(list(encoded.frames), has_bot=True))
    element.is_undefined_length = True
    return element


def _account(dataset: Dataset, encoded: Encoded) -> list[tuple[int, str, object]]:
    account: list[tuple[int, str, object]] = [
        (0x01, "UL", encoded.pixel_length),
        (0x02, "LO", encoded.pixel_md5),
        (0x03, "UI", dataset.file_meta.TransferSyntaxUID),
        (0x04, "CS", dataset.PhotometricInterpretation),
    ]
    if "PlanarConfiguration" in encoded.attributes:
        account.append((0x05, "US", dataset.PlanarConfiguration))
    if encoded.pixel_vr:
        account.append((0x06, "CS", encoded.pixel_vr))
    return account
