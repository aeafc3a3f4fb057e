"""What DCMTK's programs say of an archive: recorded words of 3.6.7, and what is believed of them."""

from pathlib import Path

import pytest

from pipeline import dcmtk
from pipeline.config.order_tables import PacsTable
from pipeline.dcmtk import Progress, SubOperations, find_answers, is_rejected_for_now, problems

FOUND = """\
I: Requesting Association
I: Association Accepted (Max Send PDV: 16372)
I: Sending Find Request (MsgID 1)
I: (0008,0050) SH [I: Received Final Find Response (Success)] # an accession number that plays tricks
I: Received Find Response 1 (Pending)
I: Writing response dataset to file: /run/q/rsp0001.dcm
I: Received Final Find Response (Success)
I: Sending Find Request (MsgID 2)
I: Received Final Find Response (Failed: UnableToProcess)
I: Sending Find Request (MsgID 3)
I: Received Find Response 4 (Pending: WarningUnsupportedOptionalKeys)
I: Writing response dataset to file: /run/q/rsp0004.dcm
E: Find Failed, query keys:
"""


def response(status: str, *, remaining: str = "none", completed: int = 0, failed: int = 0, warned: int = 0) -> str:
    return (
        "I: Received Move Response 1\n"
        "D: Message Type                  : C-MOVE RSP\n"
        f"D: Remaining Suboperations       : {remaining}\n"
        f"D: Completed Suboperations       : {completed}\n"
        f"D: Failed Suboperations          : {failed}\n"
        f"D: Warning Suboperations         : {warned}\n"
        "D: Data Set                      : none\n"
        f"D: DIMSE Status                  : {status}\n"
    )


ACCEPTED = "I: Association Accepted (Max Send PDV: 16372)\n"
PENDING = "0xff00: Pending: Sub-operations are continuing"


def heard(text: str, requests: int = 1) -> Progress:
    progress = Progress(requests)
    for line in text.splitlines():
        progress.hear(line)
    return progress


def test_each_query_has_its_own_answers_and_its_own_end():
    first, second, third = find_answers(FOUND)
    assert (first.files, first.status, first.is_whole) == ([Path("/run/q/rsp0001.dcm")], "Success", True)
    assert (second.files, second.is_whole) == ([], False)
    assert (third.files, third.status, third.is_whole) == ([Path("/run/q/rsp0004.dcm")], None, False)


def test_pending_responses_are_progress_and_no_end():
    progress = heard(ACCEPTED + response(PENDING, remaining="4", completed=2))
    assert progress.is_associated
    assert progress.counted == SubOperations(remaining=4, completed=2)
    assert (progress.status, progress.has_ended) == (None, False)


def test_the_final_response_ends_it_with_its_counts():
    pending, final = response(PENDING, remaining="1", completed=5), "0xb000: Warning: Sub-operations complete"
    progress = heard(ACCEPTED + pending + response(final, completed=5, failed=1))
    assert progress.status == (0xB000, "Warning: Sub-operations complete")
    assert (progress.counted, progress.counted.total) == (SubOperations(completed=5, failed=1), 6)


def test_several_requests_add_up_and_the_worst_status_counts():
    success, failure = response("0x0000: Success", completed=3), response("0xa702: Refused: Out", failed=2)
    assert heard(ACCEPTED + success, requests=2).status is None
    progress = heard(ACCEPTED + failure + success, requests=2)
    assert progress.status == (0xA702, "Refused: Out")
    assert progress.counted == SubOperations(completed=3, failed=2)


def test_the_status_of_our_own_request_is_not_the_archives():
    progress = heard("D: Message Type                  : C-MOVE RQ\nD: DIMSE Status                  : 0x0000\n")
    assert progress.status is None


def test_what_stood_in_the_way_is_one_sentence_without_the_dull_part():
    refused = "F: Association Request Failed:\nF: 0006:031c TCP Initialization Error: Connection refused\n"
    assert problems(refused) == "TCP Initialization Error: Connection refused"
    assert heard(refused).complaint == "TCP Initialization Error: Connection refused"
    assert not heard(refused).is_associated


@pytest.mark.parametrize(
    "said",
    [
        "F: Association Rejected:\nF: Result: Rejected Transient, Source: Service User\nF: Reason: No Reason\n",
        (
            "D: Association Rejected:\nD: Result: Rejected Transient, Source: Service Provider\n"
            "D: Reason: Local Limit Exceeded\nF: Could not negotiate association: DUL Association Rejected\n"
        ),
    ],
    ids=["movescu", "getscu"],
)
def test_an_association_rejected_for_now_is_told_from_one_rejected_for_good(said):
    for_good = said.replace("Transient", "Permanent")
    assert (is_rejected_for_now(said), is_rejected_for_now(for_good)) == (True, False)
    progress = heard(said)
    assert (progress.is_rejected_for_now, heard(for_good).is_rejected_for_now) == (True, False)
    progress.begin_again()
    assert (progress.is_rejected_for_now, progress.complaint) == (False, "")


PACS = PacsTable(ae_title="ABPACS", host="10.0.0.1", port=11113, calling_ae_title="CDRECORD", receiver="cdrecord")


def test_the_command_lines_hold_no_accession_number_and_no_uid():
    queries = [Path("/run/q/q00000"), Path("/run/q/q00001")]
    peer = ("-S", "-aet", "CDRECORD", "-aec", "ABPACS", "-to", "10", "-ta", "10")
    address = ("10.0.0.1", "11113")
    assert dcmtk.echoscu_argv(Path("/usr/bin/echoscu"), PACS) == (
        *("/usr/bin/echoscu", *peer[1:], "-td", "60", *address),
    )
    assert dcmtk.findscu_argv(Path("/usr/bin/findscu"), PACS, answers=Path("/run/q"), queries=queries) == (
        *("/usr/bin/findscu", "-v", *peer, "-td", "60", "-X", "-od", "/run/q", *address),
        *("/run/q/q00000", "/run/q/q00001"),
    )
    assert dcmtk.movescu_argv(
        Path("/usr/bin/movescu"), PACS, destination="CDRECORD", longest_seconds=3600, queries=queries
    ) == (
        *("/usr/bin/movescu", "-d", *peer, "-aem", "CDRECORD", "--no-port", "-td", "3600", *address),
        *("/run/q/q00000", "/run/q/q00001"),
    )
    assert dcmtk.getscu_argv(
        Path("/usr/bin/getscu"), PACS, folder=Path("/in/G_1"), longest_seconds=0.2, queries=queries[:1]
    ) == ("/usr/bin/getscu", "-d", *peer, "-td", "1", "+B", "-od", "/in/G_1", *address, "/run/q/q00000")
