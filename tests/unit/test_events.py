import logging

from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import Event, bug, emit, escaped


@given(st.text())
def test_one_event_is_always_one_printable_line(text):
    word = escaped(text)
    assert word.isascii()
    assert word.isprintable()
    assert '"' not in word[1:-1]


def test_an_event_is_its_verb_and_its_keys_in_the_order_given(caplog):
    logger = logging.getLogger("storestow")
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger="storestow"):
        emit(Event.DEFERRED, study="1.2.3", reason="connection\nrefused", missing=None)
    assert caplog.messages == ["deferred study=1.2.3 reason=connection\\nrefused"]


def test_a_long_value_is_cut():
    assert len(escaped("x" * 10_000)) < 600


def test_a_bug_is_told_without_its_text_because_that_may_name_a_patient(caplog):
    logging.getLogger("storestow").propagate = True
    try:
        int("DOE^JOHN")
    except ValueError as error:
        bug("process x", error)
    assert "DOE" not in caplog.text
    assert "ValueError < test_events.py:" in caplog.text
