"""Whatever a peer answers is read as an answer, or as none: never is a byte of it believed by accident."""

import io
import struct
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_RQ

from pipeline.cstore import message, pdu
from pipeline.cstore.contexts import MOST_CONTEXTS, groups_of, pairs_of
from pipeline.cstore.pdu import NotPdu, ProposedContext
from pipeline.model import InstanceKey, Item

UIDS = st.from_regex(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,5}){1,8}", fullmatch=True)
TITLES = st.from_regex(r"[A-Z0-9]([A-Z0-9_ ]{0,14}[A-Z0-9])?", fullmatch=True)


@given(st.binary(max_size=400))
def test_no_bytes_whatsoever_are_more_than_no_dicom(data):
    for read in (pdu.read_acceptance, message.read_response, lambda body: list(pdu.read_values(body))):
        with suppress(NotPdu):
            read(data)


@given(st.binary(max_size=60))
def test_a_command_set_without_status_or_message_is_no_response(rest):
    try:
        response = message.read_response(rest)
    except NotPdu:
        return
    elements = decode_elements(rest)
    assert response.status == struct.unpack("<H", elements[0x0900])[0]
    assert response.message == struct.unpack("<H", elements[0x0120])[0]


def decode_elements(data: bytes) -> dict[int, bytes]:
    elements, at = {}, 0
    while at < len(data):
        _, number, length = struct.unpack_from("<HHL", data, at)
        elements[number] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return elements


@given(TITLES, TITLES, st.lists(st.tuples(UIDS, UIDS), min_size=1, max_size=128), st.integers(4096, 131072))
def test_another_implementation_reads_the_request_we_write(called, calling, contexts, longest):
    proposals = [ProposedContext(2 * n + 1, *pair) for n, pair in enumerate(contexts)]
    read = A_ASSOCIATE_RQ()
    read.decode(pdu.associate_rq(called, calling, proposals, longest))
    assert (read.called_ae_title, read.calling_ae_title) == (called, calling)
    asked = [(one.context_id, one.abstract_syntax, *one.transfer_syntax) for one in read.presentation_context]
    assert asked == [(p.context, p.abstract_syntax, p.transfer_syntax) for p in proposals]
    assert read.user_information.maximum_length == longest


@given(st.integers(1, 65535), UIDS, UIDS)
def test_another_implementation_reads_the_command_we_write(number, sop_class, sop_instance):
    command = decode(io.BytesIO(message.c_store_rq(number, sop_class, sop_instance)), True, True)
    assert command.CommandGroupLength == len(message.c_store_rq(number, sop_class, sop_instance)) - 12
    assert command.CommandField == 0x0001
    assert (command.MessageID, command.AffectedSOPClassUID) == (number, sop_class)
    assert (command.AffectedSOPInstanceUID, command.CommandDataSetType) == (sop_instance, 1)


SYNTAXES = ("1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90")


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(SYNTAXES)), max_size=300))
def test_every_instance_is_in_one_group_with_all_its_contexts_and_no_group_is_too_large(kinds):
    items = [item(n, f"1.9.{sop_class}", syntax) for n, (sop_class, syntax) in enumerate(kinds)]
    groups = groups_of(items)
    placed = [one for group in groups for one in group.items]
    assert sorted(placed, key=lambda one: one.size) == items
    for group in groups:
        numbers = list(group.contexts.values())
        assert len(numbers) <= MOST_CONTEXTS
        assert numbers == list(range(1, 2 * len(numbers), 2))
        for one in group.items:
            assert all(pair in group.contexts for pair in pairs_of(one))


def item(number: int, sop_class: str, syntax: str) -> Item:
    key = InstanceKey("1.2", "1.2.1", f"1.2.1.{number}")
    return Item(key, Path("nowhere"), "", number, sop_class, syntax, "A", "B", None)
