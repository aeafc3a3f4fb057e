"""Prove that an order's studies are of one patient: before they are retrieved, and again before delivery.

No source is believed alone. The HIS is compared with the PACS, the PACS with every image, and each with itself. A
person may accept a difference between two sources, for one order, with a reason. A source that contradicts itself
means two patients, which nobody may accept.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.dicom.accession import AccessionNumber, spellings
from pipeline.dicom.patient import Patient
from pipeline.errors import StorestowError
from pipeline.events import Event, alarm
from pipeline.ledger import orders
from pipeline.ledger.rows import OrderRow, SoundInstanceRow
from pipeline.model import OrderError, OrderState
from pipeline.orders import c_find, his
from pipeline.orders.c_find import StudyAnswer
from pipeline.orders.compare_sources import (
    Findings,
    HisAnswer,
    IdentitySource,
    SourceStatement,
    pacs_and_images,
    within,
)
from pipeline.orders.finish import end, end_of_several_patients, say_let_through
from pipeline.patients import PatientUnknown
from pipeline.site.site import PacsPatients, Site


def before_retrieval(order: OrderRow, answers: Sequence[StudyAnswer], site: Site) -> bool:
    """Return True if the PACS names one patient and the HIS no other; otherwise end the order, return False."""
    placeholders, table = site.settings.site.placeholder_ids, site.settings.patients
    named = [
        SourceStatement(answer.accession_number, answer.study_instance_uid, answer.patient) for answer in answers
    ]
    findings = within(IdentitySource.PACS, named, placeholders)
    state = None
    try:
        if his.is_asked_beforehand(table):
            accessions = tuple(dict.fromkeys(answer.accession_number for answer in answers))
            people, among = his.ask(order.verb, accessions, table)
            findings |= among | his.his_and_pacs(people, named, table, placeholders)
            state = HisAnswer.ASKED
    except PatientUnknown as error:
        if order.verb not in his.GO_ON_WITHOUT:
            end(order.id, OrderState.FAILED, site, OrderError.PATIENT_UNKNOWN, str(error))
            return False
        state = HisAnswer.UNKNOWN
    except StorestowError as error:
        alarm(Event.HELD, what="patients", order=order.id, reason=error)
        if order.verb not in his.GO_ON_WITHOUT:
            end(order.id, OrderState.FAILED, site, OrderError.PATIENTS_UNAVAILABLE, str(error))
            return False
        state = HisAnswer.NOT_ASKED
    site.pacs_patients[order.id] = _by_study(answers)
    return is_decided(order, findings, {"his": state}, "nothing was retrieved", site)


def before_delivery(order: OrderRow, came: Sequence[tuple[SoundInstanceRow, Patient]], site: Site) -> bool:
    """Return True if the images are of the one patient whom the PACS named; otherwise end the order, return False.

    `came` has the row of each image and the patient in it. Raises PeerUnavailable if the PACS must be asked again
    and does not answer.
    """
    placeholders = site.settings.site.placeholder_ids
    links = _links(order, site)
    said = statements(came, links)
    findings = within(IdentitySource.IMAGES, said, placeholders)
    named = _named(order, site)
    if gone := sorted({statement.study_instance_uid for statement in said} - named.keys()):
        detail = f"the PACS does not name the patient of study {gone[0]} any more; nothing was sent"
        end(order.id, OrderState.FAILED, site, OrderError.NO_DATA, detail)
        return False
    assert site.settings.pacs is not None
    by_patient_id = site.settings.pacs.identity == "patient-id"
    findings |= pacs_and_images(named, said, placeholders, by_patient_id=by_patient_id)
    differs = sum(_is_of_other_number(row, links) for row, _ in came)
    return is_decided(order, findings, {"accession_differs": differs}, "nothing was made or sent", site)


def is_decided(order: OrderRow, findings: Findings, more: Mapping[str, Any], what: str, site: Site) -> bool:
    """Record the findings, and return whether the order goes on.

    A contradiction ends the order, unless a person has accepted it; `what` says what was therefore not done.
    """
    is_allowed = order.identity_allowed is not None and findings.may_be_allowed
    with site.ledger.transaction() as connection:
        row = orders.row(connection, order.id)
        before = Findings.read(row.identity if row else None)
        orders.change_row(
            connection, order.id, identity=(before | findings).as_row(row.identity if row else None, more)
        )
    if findings.differing and not is_allowed:
        end_of_several_patients(order.id, findings, what, site)
        return False
    if findings.differing:
        say_let_through(order.id, findings)
    return True


def _links(order: OrderRow, site: Site) -> dict[str, tuple[str, ...]]:
    """Return the accession numbers under which each study of an order was found."""
    with site.ledger.reading() as connection:
        return {link.study_instance_uid: link.accession_numbers for link in orders.links(connection, order.id)}


def statements(
    came: Sequence[tuple[SoundInstanceRow, Patient]], links: Mapping[str, tuple[str, ...]]
) -> list[SourceStatement]:
    """Return the images' statements about their patients; `links` has the requested numbers of each study."""
    return [
        SourceStatement(_number(links.get(row.study_instance_uid, ()), row), row.study_instance_uid, patient)
        for row, patient in came
    ]


def _number(asked: tuple[str, ...], row: SoundInstanceRow) -> str:
    """Return the accession number by which a person knows an image: the first requested one, otherwise its own."""
    return asked[0] if asked else (row.accession_number or "").split("\\")[0]


def _is_of_other_number(row: SoundInstanceRow, links: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether an image has an accession number under which its study was not requested."""
    own = [number for number in (row.accession_number or "").split("\\") if number.strip(" \0")]
    asked = links.get(row.study_instance_uid, ())
    return bool(own) and not any(spellings(number, own) for number in asked)


def _named(order: OrderRow, site: Site) -> PacsPatients:
    """Return the patients whom the PACS named for each study; query again if they are not known any more."""
    if (known := site.pacs_patients.get(order.id)) is None:
        accessions = [AccessionNumber(number) for number in order.accessions if number not in order.missing]
        known = _by_study(c_find.studies_of(accessions, site.settings, site.spool.run).answers)
        site.pacs_patients[order.id] = known
    return known


def _by_study(answers: Iterable[StudyAnswer]) -> PacsPatients:
    studies: dict[str, tuple[Patient, ...]] = {}
    for answer in answers:
        studies[answer.study_instance_uid] = (*studies.get(answer.study_instance_uid, ()), answer.patient)
    return studies
