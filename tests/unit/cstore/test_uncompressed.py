"""kind = "cstore": what the peer does not take as it is goes uncompressed, or not at all."""

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from support.peers.storage_peer import Abort, as_item, data_set, deliver, states, storage_peer
from support.studies.small_studies import Attempts, make_item, make_study, pinned

from pipeline.errors import Transient
from pipeline.model import ReceiptState

EXPLICIT, IMPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"


def only(*syntaxes):
    return lambda _abstract, proposed: (0, proposed[0]) if proposed[0] in syntaxes else (4, "")


def encapsulated(tmp_path, name="JPEG2000"):
    """A real compressed instance of pydicom's."""
    path = tmp_path / "compressed.dcm"
    path.write_bytes(Path(get_testdata_file(f"{name}.dcm")).read_bytes())
    return as_item(path)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_the_peer_does_not_take_compressed_is_decoded_and_the_receipt_says_so(tmp_path, syntax):
    item = encapsulated(tmp_path, "MR_small_jp2klossless")
    before = item.path.read_bytes()
    with storage_peer(accept=only(syntax)) as peer:
        receipts, _, error = deliver(peer.port, [item, make_item(tmp_path, 1)], response_timeout="20s")
    assert error is None
    assert states(receipts) == ["stored"] * 2
    receipt = receipts[item.key.sop_instance_uid]
    assert "JPEG 2000 Image Compression (Lossless Only)" in receipt.message
    assert ("Explicit" if syntax == EXPLICIT else "Implicit") in receipt.message
    assert item.path.read_bytes() == before
    sent = data_set(peer.received[0])
    original = pydicom.dcmread(item.path)
    assert sent.SOPInstanceUID == original.SOPInstanceUID
    assert sent.PixelData == original.pixel_array.tobytes()
    assert sent.PatientName == original.PatientName
    assert peer.received[0].transfer_syntax == syntax


def test_what_was_lossy_stays_marked_as_lossy(tmp_path):
    item = encapsulated(tmp_path, "JPGExtended")
    with storage_peer(accept=only(EXPLICIT)) as peer:
        receipts, _, _ = deliver(peer.port, [item], response_timeout="20s")
    [receipt] = receipts.values()
    assert receipt.state is ReceiptState.STORED
    assert "lossy" in receipt.message
    assert data_set(peer.received[0]).LossyImageCompression == "01"


def test_an_explicit_instance_goes_to_a_peer_that_knows_the_default_transfer_syntax_only(tmp_path):
    item = make_item(tmp_path, 1)
    with storage_peer(accept=only(IMPLICIT)) as peer:
        receipts, _, _ = deliver(peer.port, [item], response_timeout="20s")
    assert states(receipts) == ["stored"]
    sent = data_set(peer.received[0])
    assert (sent.PatientID, sent.SOPInstanceUID) == ("P-SECRET-1", item.key.sop_instance_uid)


def test_what_can_neither_be_taken_nor_decoded_is_refused_and_nothing_is_attempted(tmp_path):
    video = replace(make_item(tmp_path, 1), transfer_syntax_uid="1.2.840.10008.1.2.4.103")
    other = replace(make_item(tmp_path, 2), sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    attempts = Attempts()
    good = make_item(tmp_path, 3)

    def accept(abstract, proposed):
        if abstract == other.sop_class_uid:
            return 3, ""
        return (0, proposed[0]) if proposed[0] != video.transfer_syntax_uid else (4, "")

    with storage_peer(accept=accept) as peer:
        receipts, _, error = deliver(peer.port, [video, other, good], attempts)
    assert error is None
    assert [receipts[i.key.sop_instance_uid].state.value for i in (video, other, good)] == [
        "refused",
        "refused",
        "stored",
    ]
    assert "MPEG-4" in receipts[video.key.sop_instance_uid].message
    assert "cannot be decoded here" in receipts[video.key.sop_instance_uid].message
    assert "MR Image Storage" in receipts[other.key.sop_instance_uid].message
    assert receipts[other.key.sop_instance_uid].code == "context result 3"
    assert attempts.uids == [good.key.sop_instance_uid]


def test_a_peer_that_changes_its_mind_between_associations_gets_each_in_what_it_took_last(tmp_path):
    items = make_study(tmp_path, 3)
    taken = iter([EXPLICIT, IMPLICIT, IMPLICIT])
    now = []

    def greet(_number):
        now[:] = [next(taken)]

    def accept(_abstract, proposed):
        return (0, proposed[0]) if proposed[0] in now else (4, "")

    with storage_peer(greet=greet, accept=accept, answer=lambda one: Abort() if one.number == 1 else 0) as peer:
        receipts, _, error = deliver(peer.port, items, response_timeout="20s")
    assert error is None
    assert states(receipts) == ["stored"] * 3
    for one in peer.received:
        assert data_set(one).SOPInstanceUID == one.uid, one.transfer_syntax
    assert [one.transfer_syntax for one in peer.received] == [EXPLICIT, IMPLICIT, IMPLICIT, IMPLICIT]


def test_what_was_read_ahead_and_is_refused_meanwhile_never_leaves_under_another_uid(tmp_path):
    first, last = make_item(tmp_path, 1), make_item(tmp_path, 3)
    other = replace(make_item(tmp_path, 2), sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    associations = []

    def accept(abstract, proposed):
        is_taken = abstract != other.sop_class_uid or len(associations) == 1
        return (0, proposed[0]) if is_taken else (3, "")

    with storage_peer(
        greet=associations.append, accept=accept, answer=lambda one: Abort() if one.number == 1 else 0
    ) as peer:
        receipts, _, error = deliver(peer.port, [first, other, last])
    assert error is None
    assert {uid: receipt.state.value for uid, receipt in receipts.items()} == {
        first.key.sop_instance_uid: "stored",
        other.key.sop_instance_uid: "refused",
        last.key.sop_instance_uid: "stored",
    }
    for one in peer.received:
        assert data_set(one).SOPInstanceUID == one.uid


@pytest.mark.parametrize("result", [1, 2, 77])
def test_a_context_refused_without_a_lasting_reason_is_tried_again(tmp_path, result):
    with storage_peer(accept=lambda _abstract, _syntaxes: (result, "")) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 1))
    assert type(error) is Transient
    assert states(receipts) == ["pending"]


def test_an_acceptance_in_a_transfer_syntax_nobody_proposed_is_none(tmp_path):
    with storage_peer(accept=lambda _abstract, _syntaxes: (0, "1.2.840.10008.1.2.2")) as peer:
        receipts, _, error = deliver(peer.port, make_study(tmp_path, 1))
    assert type(error) is Transient
    assert states(receipts) == ["pending"]
    assert peer.received == []


def test_pixels_that_cannot_be_decoded_refuse_their_instance_only(tmp_path):
    item = encapsulated(tmp_path, "MR_small_jp2klossless")
    content = item.path.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51")  # the codestream's beginning
    item.path.write_bytes(content[:at] + b"\xff\x4f\x00\x00" + content[at + 4 :])
    bad = replace(pinned(item.path, item.key), sop_class_uid=item.sop_class_uid, transfer_syntax_uid=J2K)
    with storage_peer(accept=only(EXPLICIT)) as peer:
        receipts, _, error = deliver(peer.port, [bad, make_item(tmp_path, 1)], response_timeout="20s")
    assert error is None
    assert states(receipts) == ["refused", "stored"]
    assert "uncompressed only" in receipts[bad.key.sop_instance_uid].message
    assert len(peer.requests) == 1


def test_what_was_pinned_and_has_changed_is_not_decoded_either(tmp_path):
    item = encapsulated(tmp_path, "MR_small_jp2klossless")
    item.path.write_bytes(item.path.read_bytes() + b"\0\0")
    with storage_peer(accept=only(EXPLICIT)) as peer:
        receipts, _, error = deliver(peer.port, [item])
    assert type(error) is Transient
    assert states(receipts) == ["pending"]
    assert peer.received == []
