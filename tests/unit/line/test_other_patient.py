"""Two patients under one Study Instance UID: the first decides, the other waits for a person."""

import logging
import re
import stat

import pytest
from pydicom.uid import generate_uid
from support.sites import ledger_place
from support.sites.line_site import (
    NULL,
    RECEIVER,
    all_settled,
    arrive,
    instance,
    rounds,
    settings_for,
    states,
    working,
)

from pipeline.errors import Permanent, Usage
from pipeline.ledger import accounts, arrivals
from pipeline.line import identify_arrival as identify_arrival_module
from pipeline.line import other_patient, quarantine
from pipeline.line.admit import admit
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.reconcile import reconcile
from pipeline.line.study_patient import KEY_FILE

STUDY = generate_uid()
REASON = "the number was corrected at the console"


@pytest.fixture
def site_and_worker(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        yield site, worker


@pytest.fixture
def come(tmp_path, site_and_worker):
    """Let instances of one study come in, each with these Patient IDs, and be settled; return their states."""
    site, worker = site_and_worker
    count = iter(range(100))

    def come(*patients, receiver="modalities", **attributes):
        files = [
            instance(
                tmp_path,
                f"{next(count)}",
                **{"StudyInstanceUID": STUDY, "PatientName": "DOE^JO", "PatientBirthDate": "19700101"}
                | attributes
                | (patient if isinstance(patient, dict) else {"PatientID": patient}),
            )
            for patient in patients
        ]
        arrive(site.spool, *files, receiver=receiver)
        rounds(worker, until=all_settled(site))
        return states(site, "instances")

    return come


def aside_of(site) -> list[str | None]:
    return [one["code"] for one in quarantine.listed(site.ledger)["quarantined"]]


def alarms(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_the_first_patient_of_a_study_decides_and_another_one_is_set_aside(site_and_worker, come, caplog):
    site, _ = site_and_worker
    caplog.set_level(logging.INFO, "storestow")
    assert come("A-111", "B-999", "A-111", "B-999") == {"passed": 2, "quarantined": 2}
    assert aside_of(site) == ["other-patient"] * 2
    (alarm,) = alarms(caplog)
    assert f"study={STUDY} code=other-patient instances=2" in alarm
    assert not re.search("A-111|B-999|DOE", caplog.text)
    assert states(site, "deliveries") == {"delivered": 1}


def test_a_later_arrival_is_held_against_the_study_and_alarms_once_a_study(site_and_worker, come, caplog):
    site, _ = site_and_worker
    come("A-111")
    assert come("B-999") == {"passed": 1, "quarantined": 1}
    assert come("B-999", "C-1", "A-111") == {"passed": 2, "quarantined": 3}
    assert len(alarms(caplog)) == 1
    assert aside_of(site) == ["other-patient"] * 3


@pytest.mark.both_databases
def test_a_patient_who_comes_to_be_known_while_another_arrival_is_judged_decides(
    site_and_worker, tmp_path, monkeypatch
):
    site, _ = site_and_worker
    names = [
        arrive(site.spool, instance(tmp_path, patient, StudyInstanceUID=STUDY, PatientID=patient))
        for patient in ("A-111", "B-999")
    ]
    for name in names:
        admit(name, site)
    enter, calls = identify_arrival_module._enter, []

    def enter_later(entry, site):
        """Let the other node be faster, when all has been judged and before anything is entered."""
        calls.append(entry.name)
        if len(calls) == 1:
            identify_arrival(names[1], site)
        return enter(entry, site)

    monkeypatch.setattr(identify_arrival_module, "_enter", enter_later)
    identify_arrival(names[0], site)
    assert calls == [names[0], names[1], names[0]]
    assert states(site, "instances") == {"received": 1, "quarantined": 1}
    assert [one["arrival"] for one in quarantine.listed(site.ledger)["quarantined"]] == [names[0]]
    assert aside_of(site) == ["other-patient"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A-111", " a-111 "),
        ("A-111", ""),
        ("A-111", "UNKNOWN"),
        ("0000", "A-111"),
        ("MÜ-1", "mü-1"),
        ({"PatientID": "A-1", "IssuerOfPatientID": "ONE"}, {"PatientID": "A-1"}),
        ({"PatientID": "A-1"}, {"PatientID": "A-1", "IssuerOfPatientID": "ONE"}),
        ({"PatientID": "A-1", "PatientName": "DOE^JO"}, {"PatientID": "A-1", "PatientName": "OTHER^WOMAN"}),
    ],
)
def test_what_contradicts_nothing_goes_on(come, first, second):
    assert come(first, second, SpecificCharacterSet="ISO_IR 192") == {"passed": 2}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A-111", "A-112"),
        ("A-111", "A111"),
        ({"PatientID": "A-1", "IssuerOfPatientID": "ONE"}, {"PatientID": "A-1", "IssuerOfPatientID": "TWO"}),
        ({"PatientID": "A-1", "PatientName": "DOE^JO"}, {"PatientID": "B-2", "PatientName": "DOE^JO"}),
    ],
)
def test_another_patient_id_or_issuer_is_another_patient(come, first, second):
    assert come(first, second) == {"passed": 1, "quarantined": 1}


def test_a_placeholder_at_first_leaves_it_to_the_next(come):
    assert come("NO ID", "A-111", "B-999") == {"passed": 2, "quarantined": 1}


def test_the_same_patient_id_may_have_many_studies(come):
    assert come("A-111", StudyInstanceUID=generate_uid()) == {"passed": 1}
    assert come("B-999", StudyInstanceUID=generate_uid()) == {"passed": 2}


def test_names_and_birth_dates_are_noted_without_their_values(come, caplog):
    caplog.set_level(logging.INFO, "storestow")
    come("A-111")
    come({"PatientID": "A-111", "PatientName": "OTHER^WOMAN", "PatientBirthDate": "19991231"})
    (noted,) = [record.getMessage() for record in caplog.records if "identity-noted" in record.getMessage()]
    assert f"study={STUDY}" in noted
    assert noted.endswith("attributes=patient_birth_date,patient_name")
    assert not re.search("OTHER|19991231|1999-12", caplog.text), "a name of an arrival may have 1999 in its number"


@pytest.mark.sqlite_file
def test_the_ledger_holds_no_patient_id_and_the_key_is_the_owners_alone(tmp_path, site_and_worker, come):
    site, _ = site_and_worker
    come("QQ-777", "ZZ-888")
    key = site.spool.root / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    site.ledger.close()
    kept = b"".join(file.read_bytes() for file in site.spool.root.glob("ledger.sqlite3*"))
    assert not re.search(rb"(?i)qq-777|zz-888", kept)


def test_a_key_that_was_being_made_when_the_worker_was_killed_is_made_anew(site_and_worker, come):
    site, _ = site_and_worker
    unfinished = site.spool.root / f".{KEY_FILE}.123-abcd.part"
    unfinished.write_bytes(b"half a key")
    reconcile(site)
    assert not unfinished.exists()
    assert come("A-111", "B-999") == {"passed": 1, "quarantined": 1}
    key = (site.spool.root / KEY_FILE).read_bytes()
    reconcile(site)
    assert (site.spool.root / KEY_FILE).read_bytes() == key


def test_what_a_person_releases_is_delivered_and_so_is_what_follows_of_that_patient(site_and_worker, come, caplog):
    site, worker = site_and_worker
    come("A-111", "B-999")
    come("B-999")
    assert other_patient.release_study(STUDY, REASON, (), site.spool, site.ledger) == 2
    rounds(worker, until=all_settled(site))
    assert states(site, "instances") == {"passed": 3}
    assert come("B-999") == {"passed": 4}
    assert come("C-1") == {"passed": 4, "quarantined": 1}
    with site.ledger.reading() as look:
        names = sorted(arrivals.states(look))
        patients = [one for name in names for one in accounts.account_of(look, name, 0.0)["patients"]]
    assert [(one["is_first"], one["reason"]) for one in patients] == [(True, None), (False, REASON)]


def test_a_released_instance_that_was_sent_twice_goes_once(tmp_path, site_and_worker):
    site, worker = site_and_worker
    first, other = (
        instance(tmp_path, name, StudyInstanceUID=STUDY, PatientID=name) for name in ("A-111", "B-999")
    )
    for files in ([first, other], [other], [other]):
        arrive(site.spool, *files)
        rounds(worker, until=all_settled(site))
    assert states(site, "instances") == {"passed": 1, "quarantined": 3}
    other_patient.release_study(STUDY, REASON, (), site.spool, site.ledger)
    rounds(worker, until=all_settled(site))
    assert states(site, "instances") == {"passed": 2, "duplicate": 2}


def test_it_is_released_by_its_study_and_with_a_reason_only(site_and_worker, come):
    site, _ = site_and_worker
    come("A-111", "B-999")
    (aside,) = quarantine.listed(site.ledger)["quarantined"]
    with pytest.raises(Permanent, match=f"release --study {STUDY} --reason"):
        quarantine.release(f"{aside['arrival']}/{aside['file']}", site.spool, site.ledger)
    for reason in ("", "  x ", "x" * 201):
        with pytest.raises(Usage, match="3 to 200 characters"):
            other_patient.release_study(STUDY, reason, (), site.spool, site.ledger)
    with pytest.raises(Usage, match="nothing of the study"):
        other_patient.release_study("1.2.3", REASON, (), site.spool, site.ledger)
    assert states(site, "instances") == {"passed": 1, "quarantined": 1}


def test_it_can_be_discarded_and_alarms_again_then(site_and_worker, come, caplog):
    site, _ = site_and_worker
    come("A-111", "B-999", "B-999")
    assert len(other_patient.discard_study(STUDY, site.spool, site.ledger)) == 2
    assert aside_of(site) == []
    with pytest.raises(Usage, match="nothing of the study"):
        other_patient.discard_study(STUDY, site.spool, site.ledger)
    come("B-999")
    assert len(alarms(caplog)) == 2


def test_a_lost_ledger_remembers_from_the_accounts_whose_a_study_is(tmp_path):
    for number, patient in enumerate(["A-111", "B-999", "A-111"]):
        with working(settings_for(tmp_path)) as (site, worker):
            reconcile(site)
            arrive(site.spool, instance(tmp_path, f"{number}", StudyInstanceUID=STUDY, PatientID=patient))
            rounds(worker, until=all_settled(site))
            found = states(site, "instances")
        ledger_place.lose(tmp_path / "spool")
    assert found == {"passed": 2, "quarantined": 1}


def test_two_receivers_of_the_line_hold_a_study_against_one_patient(tmp_path):
    receivers = [
        {**RECEIVER},
        {**RECEIVER, "name": "other", "ae_title": "OTHER", "port": 11113},
    ]
    with working(settings_for(tmp_path, receivers=receivers, destinations=[NULL])) as (site, worker):
        for name, receiver in (("A-111", "modalities"), ("B-999", "other")):
            file = instance(tmp_path, name, StudyInstanceUID=STUDY, PatientID=name)
            arrive(site.spool, file, receiver=receiver)
            rounds(worker, until=all_settled(site))
        assert states(site, "instances") == {"passed": 1, "quarantined": 1}
