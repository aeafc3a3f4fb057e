"""What DCMTK complains of, and whether an object is still what was sent."""

import pytest

from pipeline.dcmtk.program_messages import loss
from pipeline.dcmtk.storescp_log import StorescpLog

ORDER = "DcmItem: Dataset not in ascending tag order, at element (0010,0020)"


def no_vr(letters: str, code: str, tag: str = "(0009,1001)") -> str:
    return (
        f"DcmItem: Non-standard VR '{letters}' ({code}) encountered while parsing element {tag}, "
        "assuming 2 byte length field"
    )


@pytest.mark.parametrize(
    "complaints",
    [
        [],
        [ORDER],
        ["DcmItem: Length of element (0008,1030) is odd"],
        ["DcmItem: Length of element (7fe0,0010) is not a multiple of 2 (VR=OW)"],
        ["DcmItem: Group Length with VR other than UL found, corrected"],
        ["DcmItem: Invalid Element (0002,0010) found in data set"],
        ["DcmUniqueIdentifier: Element SOPClassUID (0008,0016) contains one or more space characters, ..."],
        ["DcmObject: Length of element (0008,1030) exceeds maximum of 16-bit length field, changing VR to UN"],
        ["Found element (0009,1002) with VR UN and undefined length, reading a sequence with XFER (CP-246)"],
        [no_vr("  ", "20\\20"), no_vr("  ", "20\\20", "(0009,1002)")],
        [no_vr("  ", "00\\00")],
        [no_vr("lo", "6c\\6f")],
    ],
)
def test_what_is_only_how_the_sender_wrote_is_no_loss(complaints):
    assert loss(complaints) is None


@pytest.mark.parametrize(
    ("complaints", "tag"),
    [
        (
            ["DcmItem: Element (0008,0070) found twice in one data set or item, ignoring second entry"],
            "(0008,0070)",
        ),
        ([no_vr("  ", "06\\00")], "(0009,1001)"),
        ([no_vr("  ", "20\\20"), no_vr("o!", "6f\\21", "(6568,6c6c)")], "(0009,1001)"),
        ([no_vr("  ", "20\\20"), ORDER], "(0009,1001)"),
        ([ORDER, no_vr("  ", "00\\00")], "(0009,1001)"),
        (["DcmItem: Explicit item length (40 bytes) too large for the elements contained in the item"], ""),
        (["DcmItem: something no release has said so far of (0010,0010)"], "(0010,0010)"),
    ],
)
def test_what_was_dropped_or_misread_is_told_with_its_tag(complaints, tag):
    said = loss(complaints)
    assert said is not None
    assert tag in said


def test_a_padding_of_zeros_is_no_element_and_the_same_complaint_counts_once():
    log = StorescpLog()
    log.hear("I: Received Store Request")
    for tag in ("(0000,0000)", "(0010,0010)", "(0010,0020)", "(0000,0000)"):
        log.hear(f"W: DcmItem: Dataset not in ascending tag order, at element {tag}")
    log.hear("W: DcmItem: Element (0000,0000) found twice in one data set or item, ignoring second entry")
    assert log.end().complaints == ["DcmItem: Dataset not in ascending tag order, at element (0010,0010)"]
