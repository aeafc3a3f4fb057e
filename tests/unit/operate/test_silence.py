"""An AE title is missed by its own history: no night, weekend or holiday is a silence."""

import time

from support.sites.placed_orders import settings_with_pacs

from pipeline.config.alarm_tables import AlarmTable
from pipeline.ledger.tallies import Tally, TallyKind
from pipeline.operate.silence import missed_senders, silences

HOUR = 3600
MONDAY_10 = 1_799_661_600.0 - 1_799_661_600.0 % (7 * 24 * HOUR) + (4 * 24 + 10) * HOUR  # the epoch was a Thursday


def office_hours(weeks, *, until: float, title: str = "CT1") -> list[Tally]:
    """Two studies an hour from 7 to 17, Monday to Friday, of the weeks before `until`."""
    found = []
    for hours_ago in range(1, weeks * 7 * 24):
        at = until - hours_ago * HOUR
        weekday, hour = time.gmtime(at).tm_wday, time.gmtime(at).tm_hour
        if weekday < 5 and 7 <= hour < 17:
            found.append(Tally(int(at // HOUR), TallyKind.RECEIVED, "modalities", title, 2, 0, 0, 0.0, at))
    return found


def test_nights_and_weekends_are_no_silence_and_a_silent_morning_is():
    history = office_hours(5, until=MONDAY_10 - 2 * 24 * HOUR)  # nothing since the weekend began
    for hours in (-40, -10, -3, -2):
        assert silences(history, MONDAY_10 + hours * HOUR) == []
    (missed,) = silences(history, MONDAY_10)
    assert (missed.calling_ae_title, missed.receiver, missed.usual) == ("CT1", "modalities", 6)


def test_a_machine_nobody_knows_long_or_that_is_used_now_and_then_is_not_missed():
    assert silences(office_hours(2, until=MONDAY_10 - 48 * HOUR), MONDAY_10) == []
    rare = office_hours(5, until=MONDAY_10 - 48 * HOUR)[::40]
    assert silences(rare, MONDAY_10) == []


def test_one_holiday_in_the_history_silences_no_alarm():
    history = office_hours(5, until=MONDAY_10 - 48 * HOUR)
    holiday = int((MONDAY_10 - 7 * 24 * HOUR) // (24 * HOUR))
    assert silences([tally for tally in history if tally.hour // 24 != holiday], MONDAY_10)


def test_what_we_ask_for_ourselves_is_not_missed_nor_is_anybody_where_it_is_switched_off(tmp_path):
    history = office_hours(5, until=MONDAY_10 - 48 * HOUR)
    ours = [tally._replace(name=name) for tally in history for name in ("cdrecord", "heartbeat")]
    nameless = [tally._replace(detail="") for tally in history]
    settings = settings_with_pacs(tmp_path)
    heartbeat = {"receiver": "heartbeat", "every": "10m", "within": "5m"}
    watched = settings.model_copy(update={"alarm": AlarmTable(heartbeat=heartbeat)})
    missed = missed_senders(watched, [*history, *ours, *nameless], MONDAY_10)
    assert [(silence.receiver, silence.calling_ae_title) for silence in missed] == [("modalities", "CT1")]
    switched_off = settings.model_copy(update={"alarm": AlarmTable(silence=False)})
    assert missed_senders(switched_off, history, MONDAY_10) == []
