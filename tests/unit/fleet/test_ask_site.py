"""One site is asked: every answer ends in time, and what is no status is said to be none."""

import json
import time
from itertools import repeat

import pytest
from support.machine.dicom_programs import free_port
from support.sites.fleet_sites import STATUS_KEY, answer_of, answering, fleet_site, report

from pipeline.fleet.ask_site import MOST_BYTES, SiteFailure, ask_site
from pipeline.fleet.site_report import MOST, SiteReport

WELL = report().model_dump_json().encode()


def changed(**values: object) -> bytes:
    return json.dumps({**report().model_dump(), **values}).encode()


def test_a_status_is_read(tmp_path):
    with answering(answer_of(WELL)) as port:
        answer = ask_site(fleet_site(tmp_path, "north", port))
    assert (answer.failure, answer.report) == (None, SiteReport.model_validate_json(WELL))


def test_keys_of_a_newer_release_are_ignored(tmp_path):
    with answering(answer_of(changed(mood="good"))) as port:
        assert ask_site(fleet_site(tmp_path, "north", port)).report is not None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (answer_of(b"", "401 Unauthorized"), SiteFailure.WRONG_KEY),
        (answer_of(WELL, "404 Not Found"), SiteFailure.NO_STATUS),
        (answer_of(WELL, "502 Bad Gateway"), SiteFailure.ODD_STATUS),
        (answer_of(WELL, "302 Found"), SiteFailure.ODD_STATUS),
        (answer_of(b""), SiteFailure.MALFORMED),
        (answer_of(b"<html>log in</html>"), SiteFailure.MALFORMED),
        (answer_of(b"[" * 200_000), SiteFailure.MALFORMED),
        (answer_of(b"\xff" + WELL), SiteFailure.MALFORMED),
        (answer_of(changed(quarantine="0")), SiteFailure.MALFORMED),
        (answer_of(changed(quarantine=-1)), SiteFailure.MALFORMED),
        (answer_of(changed(quarantine=10**40)), SiteFailure.MALFORMED),
        (answer_of(changed(at=float("nan"))), SiteFailure.MALFORMED),
        (answer_of(changed(name="a\nb")), SiteFailure.MALFORMED),
        (answer_of(changed(name="\u202eevil")), SiteFailure.MALFORMED),
        (answer_of(changed(name="x" * 201)), SiteFailure.MALFORMED),
        (answer_of(changed(alarms=[{"key": "k", "since": 1.0}] * (MOST + 1))), SiteFailure.MALFORMED),
        (answer_of(changed(name="x" * MOST_BYTES)), SiteFailure.TOO_LARGE),
        (answer_of(WELL)[:-7], SiteFailure.NO_REPLY),
        (b"no HTTP at all\r\n\r\n", SiteFailure.NO_REPLY),
        (b"", SiteFailure.NO_REPLY),
    ],
)
def test_what_is_no_status_is_said_to_be_none(tmp_path, answer, failure):
    with answering(answer, b"") as port:
        told = ask_site(fleet_site(tmp_path, "north", port))
    assert (told.failure, told.report) == (failure, None)
    assert "evil" not in told.detail
    assert STATUS_KEY not in told.detail


def test_nothing_listens_there(tmp_path):
    assert ask_site(fleet_site(tmp_path, "north", free_port())).failure is SiteFailure.UNREACHABLE


@pytest.mark.parametrize("pieces", [(), tuple(repeat(b"H", 600)), (answer_of(WELL)[:60], *repeat(b" ", 600))])
def test_a_site_that_hangs_or_trickles_costs_its_deadline(tmp_path, pieces):
    with answering(*pieces, pause=0.05) as port:
        began = time.monotonic()
        told = ask_site(fleet_site(tmp_path, "north", port))
    assert told.failure is SiteFailure.NO_REPLY
    assert time.monotonic() - began < 20  # 600 pieces take 30 s


def test_a_key_that_others_can_read_is_not_sent(tmp_path):
    with answering(answer_of(WELL)) as port:
        table = fleet_site(tmp_path, "north", port)
        (tmp_path / "status.key").chmod(0o644)
        told = ask_site(table)
    assert told.failure is SiteFailure.CONFIGURATION
    assert "chmod 600" in told.detail
