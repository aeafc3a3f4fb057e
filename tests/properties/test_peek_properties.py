"""Whatever bytes a stranger sends, the answer is a clean proposal or the one decided error."""

import re

from hypothesis import given
from hypothesis import strategies as st
from support.peers.association_requests import context, item, request

from pipeline.receiving.peek import AssociateRequest, NotAnAssociation, parse

titles = st.binary(max_size=16)
uids = st.one_of(st.binary(max_size=70), st.from_regex(rb"[0-9.]{1,64}", fullmatch=True))
contexts = st.builds(context, st.integers(0, 255), uids)
items = st.one_of(contexts, st.builds(item, st.integers(0, 255), st.binary(max_size=80)))
requests = st.builds(lambda a, b, parts: request(a, b, *parts), titles, titles, st.lists(items, max_size=6))


def is_clean(proposal: AssociateRequest) -> bool:
    titles = proposal.calling_ae_title + proposal.called_ae_title
    return all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in proposal.abstract_syntaxes) and titles.isprintable()


def answer(data: bytes) -> AssociateRequest | None:
    try:
        return parse(data)
    except NotAnAssociation:
        return None


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_the_decided_error(data):
    proposal = answer(data)
    assert proposal is None or is_clean(proposal)


@given(requests)
def test_a_request_of_whatever_items_is_a_clean_proposal(data):
    proposal = answer(data)
    assert proposal is not None
    assert is_clean(proposal)
    assert len(set(proposal.abstract_syntaxes)) == len(proposal.abstract_syntaxes)


@given(requests, st.data())
def test_a_request_with_any_byte_changed_raises_nothing_but_the_decided_error(data, draw):
    position = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:position] + bytes([draw.draw(st.integers(0, 255))]) + data[position + 1 :]
    proposal = answer(changed)
    assert proposal is None or is_clean(proposal)


@given(requests, st.data())
def test_a_request_cut_anywhere_is_no_association(data, draw):
    assert answer(data[: draw.draw(st.integers(0, len(data) - 1))]) is None
