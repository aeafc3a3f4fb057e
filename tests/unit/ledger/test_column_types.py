"""How columns of words are compared with several words."""

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import sqlite

from pipeline.ledger.tables import delivery
from pipeline.model import DeliveryState

OPEN = {DeliveryState.DEFERRED, DeliveryState.WAITING}


@pytest.mark.parametrize(("negated", "words"), [(False, "IN (?, ?)"), (True, "NOT IN (?, ?)")])
def test_the_text_of_a_comparison_with_several_words_is_made_once(negated, words):
    compare = delivery.c.state.not_in if negated else delivery.c.state.in_
    made = select(delivery.c.id).where(compare(OPEN)).compile(dialect=sqlite.dialect())
    assert f"delivery.state {words}" in " ".join(str(made).split())
    assert list(made.params.values()) == sorted(OPEN)


def test_no_words_and_a_question_are_compared_as_ever():
    nothing = select(delivery.c.id).where(delivery.c.state.in_(()))
    inner = select(delivery.c.id).where(delivery.c.state.in_(select(delivery.c.state)))
    assert "POSTCOMPILE" in str(nothing.compile(dialect=sqlite.dialect()))
    assert "IN (SELECT delivery.state" in " ".join(str(inner.compile(dialect=sqlite.dialect())).split())
