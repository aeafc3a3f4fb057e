"""/api/status: one key opens it and nothing else, and nothing of a patient or study stands in it."""

import time

import pytest
from pydicom.uid import generate_uid
from support.sites.line_site import NULL, RECEIVER, arrive, instance, rounds, settings_for, working
from support.sites.shim_site import KEY, running_shim, settings_of

from pipeline.config.alarm_tables import AlarmTable
from pipeline.errors import Configuration
from pipeline.fleet.needs import Need, needs_of
from pipeline.fleet.site_report import SiteReport
from pipeline.ledger import tallies, told_alarms
from pipeline.ledger.tables import delivery
from pipeline.ledger.tallies import TallyKind
from pipeline.ledger.told_alarms import ToldAlarm
from pipeline.model import DeliveryState
from pipeline.web import own_status
from pipeline.web.api_key import STATUS_VARIABLE, keyring_of
from pipeline.web.own_status import report_of

OWN = "a-key-that-only-reads"
ODD = 'CT"\n1'


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_its_own_key_opens_it_and_nothing_else_and_no_other_key_does(tmp_path, monkeypatch):
    with running_shim(
        tmp_path, monkeypatch, shim={"status_key": OWN, "metrics_key": "m", "operator_key": "o"}
    ) as shim:
        for key in (KEY, "m", "o", "wrong", ""):
            assert shim.get("/api/status", key=None, headers=bearer(key)).status_code == 401, key
            assert shim.get("/api/status", key=key).status_code == 401, key
        # A proxy adds the key of the links for everybody.
        answer = shim.get("/api/status", headers=bearer(OWN))
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        SiteReport.model_validate_json(answer.content)
        for path in ("/", "/metrics", "/api/iso/download?accession_number=A1", "/patient/by-accession"):
            assert shim.get(path, key=None, headers=bearer(OWN)).status_code == 401, path
        assert shim.get("/operator", key=None, headers=bearer(OWN)).status_code == 401
        assert shim.request("POST", "/api/status", key=None, headers=bearer(OWN)).status_code == 405


@pytest.mark.parametrize("api_key", [KEY, ""])
def test_a_site_without_such_a_key_has_no_such_address_even_where_all_else_is_open(tmp_path, monkeypatch, api_key):
    with running_shim(tmp_path, monkeypatch, shim={"api_key": api_key}) as shim:
        assert shim.get("/api/status", headers=bearer("")).status_code == 404


def test_where_all_else_is_open_it_still_wants_its_key(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"api_key": "", "status_key": OWN}) as shim:
        assert shim.get("/api/status", key=None).status_code == 401


def test_questions_of_the_same_seconds_cost_one_look_and_later_ones_look_again(tmp_path, monkeypatch):
    looks = []

    def counted(*what):
        looks.append(what)
        return report_of(*what)

    monkeypatch.setattr(own_status, "report_of", counted)
    monkeypatch.setattr(own_status, "_KEPT_SECONDS", 3600.0)
    with running_shim(tmp_path, monkeypatch, shim={"status_key": OWN}) as shim:
        answers = [shim.get("/api/status", key=None, headers=bearer(OWN)).json()["at"] for _ in range(3)]
        assert (len(looks), len(set(answers))) == (1, 1)
        monkeypatch.setattr(own_status, "_KEPT_SECONDS", 0.0)
        assert shim.get("/api/status", key=None, headers=bearer(OWN)).json()["at"] > answers[0]


def test_the_key_that_other_sites_get_is_no_other_of_ours(tmp_path, monkeypatch):
    for other in ("api_key", "operator_key", "metrics_key"):
        with pytest.raises(Configuration, match=f"status_key is the {other}"):
            keyring_of(settings_of(tmp_path, shim={"operator_key": "o", "status_key": OWN, other: OWN}))
    with pytest.raises(Configuration, match="metrics_key is the api_key"):
        keyring_of(settings_of(tmp_path, shim={"api_key": OWN, "metrics_key": OWN}))
    monkeypatch.setenv(STATUS_VARIABLE, OWN)
    assert keyring_of(settings_for(tmp_path)).opens_status({"authorization": f"Bearer {OWN}"})


def test_it_tells_what_stands_and_nothing_of_a_patient_or_study(tmp_path):
    study, now = generate_uid(), time.time()
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    settings = settings_for(
        tmp_path,
        destinations=[NULL, {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}],
        receivers=[{**RECEIVER, "to": ["dead"]}],
    )
    with working(settings) as (site, worker):
        about = {"AccessionNumber": "ACC-1", "PatientName": "DOE^JANE", "PatientID": "4711-HIDDEN"}
        arrive(site.spool, instance(tmp_path, StudyInstanceUID=study, **about))
        arrive(site.spool, tmp_path / "rubbish")
        rounds(worker, until=lambda: report_of(site.settings, site.ledger, now).destinations[1].state == "down")
        with site.ledger.transaction() as connection:
            for weeks in range(5):
                at = now - weeks * 7 * 86400 - (7200 if weeks else 5 * 86400)
                tallies.add(connection, at, TallyKind.RECEIVED, "modalities", ODD, times=9, instances=9)
            told_alarms.write(
                connection,
                [
                    ToldAlarm("down:dead", 1.0, 2.0, None),
                    ToldAlarm("over", 1.0, 2.0, 3.0),
                    ToldAlarm("new", 1.0, 0.0, None),
                ],
            )
        told = report_of(site.settings, site.ledger, now)
        with site.ledger.transaction() as connection:
            connection.execute(delivery.update().values(state=DeliveryState.REFUSED, requested=False))
        assert (told.refused, report_of(site.settings, site.ledger, now).refused) == (0, 1)
        unwatched = settings.model_copy(update={"alarm": AlarmTable(silence=False)})
        assert (len(told.silent), report_of(unwatched, site.ledger, now).silent) == (1, [])
    dead = told.destinations[1]
    assert (dead.name, dead.state, dead.waiting) == ("dead", "down", 1)
    assert told.quarantine == 1
    assert [alarm.key for alarm in told.alarms] == ["down:dead"]
    assert {Need.DESTINATION_DOWN, Need.QUARANTINE, Need.ALARM, Need.RECEIVER} <= set(needs_of(told, None, now))
    text = told.model_dump_json()
    SiteReport.model_validate_json(text)
    for hidden in (study, "ACC-1", "DOE", "4711", "127.0.0.1"):
        assert hidden not in text
