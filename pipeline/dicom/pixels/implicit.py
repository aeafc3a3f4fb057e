"""Remove the VRs from a data set: Implicit VR Little Endian, value for value (PS3.5 A.1).

The VR itself is lost: a receiver looks up private elements, or takes them for UN.
"""

from pydicom import DataElement, Dataset, Sequence

from pipeline.dicom.attributes.elements import put


def without_vr(dataset: Dataset) -> Dataset:
    """Return a data set that pydicom writes in Implicit VR Little Endian without touching a value.

    `dataset` is in Explicit VR Little Endian and stays unchanged.
    """
    written = Dataset(parent_encoding=dataset.original_character_set or "iso8859")
    for element in dataset.elements():
        if element.VR == "SQ":
            whole = dataset[element.tag]
            sequence = DataElement(element.tag, "SQ", Sequence(without_vr(item) for item in whole.value))
            sequence.is_undefined_length = whole.is_undefined_length
            put(written, sequence)
        else:
            put(written, element)  # The bytes are the same, and the writer leaves the VR out.
    written.set_original_encoding(True, True, dataset.original_character_set)
    return written
