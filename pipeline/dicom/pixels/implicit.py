"""Take the VRs out of a data set: Implicit VR Little Endian, value for value (PS3.5 A.1).

What a VR alone says is lost on this way: a receiver looks up private elements, or takes them for UN.
"""

from pydicom import DataElement, Dataset, Sequence

from pipeline.dicom.attributes.elements import put


def without_vr(dataset: Dataset) -> Dataset:
    """Return what pydicom writes in Implicit VR Little Endian without touching a value.

    `dataset` is in Explicit VR Little Endian and stays as it is.
    """
    written = Dataset(parent_encoding=dataset.original_character_set or "iso8859")
    for element in dataset.elements():
        if element.VR == "SQ":
            whole = dataset[element.tag]
            sequence = DataElement(element.tag, "SQ", Sequence(without_vr(item) for item in whole.value))
            sequence.is_undefined_length = whole.is_undefined_length
            put(written, sequence)
        else:
            put(written, element)  # its bytes are the same, and what writes it leaves the VR out
    written.set_original_encoding(True, True, dataset.original_character_set)
    return written
