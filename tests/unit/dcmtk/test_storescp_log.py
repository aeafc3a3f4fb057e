"""What storescp says, told by object: which it was, who sent it, what it did not like, why it did not take it."""

import logging
from pathlib import Path

import pytest

from pipeline import dcmtk
from pipeline.dcmtk.storescp_log import MOST_COMPLAINTS, StoreRequest, StorescpLog, loss
from pipeline.receiving.program_log import ProgramLog

ASSOCIATION = """I: Association Received
D: Parameters:
D: Calling Application Name:    CT1
D: Called Application Name:     STORESTOW
I: Association Acknowledged (Max Send PDV: 16372)"""
PATH = "/spool/incoming/r/S_1.2.3/CT.X.1.2.276.4"


def one(instance: str, *after: str) -> str:
    begin = f"I: Received Store Request\nD: Message ID : 1\nD: Affected SOP Instance UID     : {instance}"
    return "\n".join((begin, *after))


def heard(*parts: str) -> list[StoreRequest]:
    log = StorescpLog()
    lines = "\n".join(parts).splitlines()
    return [request for line in lines if (request := log.hear(line))] + [r for r in [log.end()] if r]


def test_what_is_said_between_two_requests_is_about_the_first():
    first, second = heard(
        ASSOCIATION,
        one("1.1", "W: DcmItem: Element (0008,0070) found twice in one data set or item, ignoring second entry"),
        f"I: storing DICOM file: {PATH}1",
        one("1.2", f"I: storing DICOM file: {PATH}2", "I: Association Release"),
    )
    assert first == StoreRequest(
        "CT1",
        "1.1",
        f"{PATH}1",
        ["DcmItem: Element (0008,0070) found twice in one data set or item, ignoring second entry"],
    )
    assert second == StoreRequest("CT1", "1.2", f"{PATH}2")
    assert second.study_instance_uid == "1.2.3"


def test_what_is_said_of_the_network_or_by_the_hook_is_about_no_object():
    (taken,) = heard(
        one("1.1", f"I: storing DICOM file: {PATH}", "study-complete: refused: 'x'"),
        "E: DIMSE failure (aborting association): 0006:0201 Peer aborted Association",
    )
    assert (taken.failure, taken.complaints) == (None, [])


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        (f"E: cannot write DICOM file: {PATH}: Pixel representation not found", "Pixel representation not found"),
        (f"E: cannot write DICOM file: {PATH}: No space left on device", "No space left on device"),
        ("E: Store SCP Failed: 0006:020d DIMSE Failed to receive message", "Store SCP Failed: 0006:020d"),
        ("E: element StudyInstanceUID (0020,000d) absent or empty in data set", "element StudyInstanceUID"),
        ("E: could not create subdirectory for study: /spool/x", "could not create subdirectory for study"),
    ],
)
def test_why_an_object_was_not_taken_is_known(line, failure):
    (refused,) = heard(one("1.1", f"I: storing DICOM file: {PATH}", line))
    assert str(refused.failure).startswith(failure)


def test_a_reader_that_has_lost_its_way_is_heard_out_within_bounds():
    (lost,) = heard(one("1.1", *[f"W: DcmItem: Non-standard VR '{number}'" for number in range(1000)]))
    assert len(lost.complaints) == MOST_COMPLAINTS


def test_a_refusal_is_one_event_with_study_instance_and_peer(caplog):
    caplog.set_level(logging.DEBUG, "storestow")
    output = ProgramLog("r", lambda: "192.0.2.7")
    said = "\n".join((ASSOCIATION, one("1.1", f"I: storing DICOM file: {PATH}")))
    output.hear(f"{said}\nE: cannot write DICOM file: {PATH}: Pixel representation not found\n".encode())
    output.hear(b"I: Association Release\n")
    assert caplog.messages[-1].startswith(
        "refused receiver=r peer=192.0.2.7 calling_ae_title=CT1 study=1.2.3 instance=1.1 "
        'reason="Pixel representation not found; it holds compressed pixels although'
    )
    assert "association" in caplog.messages[-1]
    assert not [message for message in caplog.messages if "I: " in message or "D: " in message]


def test_what_an_association_is_aborted_over_is_told_at_once_though_nobody_else_may_ever_call(caplog):
    output = ProgramLog("r", lambda: "192.0.2.7")
    said = "E: Store SCP Failed: 0006:020d DIMSE Failed to receive message"
    output.hear(f"{ASSOCIATION}\n{one('1.1', said)}\n".encode())
    output.hear(b"E: DIMSE failure (aborting association): 0006:020d DIMSE Failed to receive message\n")
    (refusal,) = [message for message in caplog.messages if message.startswith("refused ")]
    assert refusal.startswith("refused receiver=r peer=192.0.2.7 calling_ae_title=CT1 instance=1.1 reason=")


def test_what_storescp_was_receiving_when_it_ended_is_told(caplog):
    caplog.set_level(logging.DEBUG, "storestow")
    output = ProgramLog("r", lambda: "192.0.2.7")
    output.hear(f"{ASSOCIATION}\n{one('1.1')}\n".encode())
    output.hear(b"")
    (message,) = caplog.messages
    assert message.startswith("refused receiver=r peer=192.0.2.7 calling_ae_title=CT1 instance=1.1 reason=")
    assert "storescp ended while it was receiving it" in message


def test_the_request_of_an_association_that_the_receiver_has_read_is_not_logged_and_its_sender_is_known(caplog):
    mark = "StringToMatch = BEGIN A-ASSOCIATE-RQ"
    assert mark in dcmtk.log_configuration("/dev/fd/7")
    assert mark not in dcmtk.log_configuration("/dev/stderr", objects=Path("/spool/run/r.objects"))
    output = ProgramLog("r", lambda: "192.0.2.7", "CT1")
    output.hear(f"I: Association Received\nI: Association Acknowledged\n{one('1.1')}\n".encode())
    output.hear(b"")
    (message,) = caplog.messages
    assert message.startswith("refused receiver=r peer=192.0.2.7 calling_ae_title=CT1 instance=1.1 reason=")


def test_the_log_configuration_of_a_storescp_of_others_names_no_file():
    assert "ConsoleAppender" in dcmtk.log_configuration()
    assert "appender.out.File = /dev/fd/7\n" in dcmtk.log_configuration("/dev/fd/7")
    assert "objects" not in dcmtk.log_configuration("/dev/fd/7")


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
