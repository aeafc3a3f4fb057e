"""The patients of studies on the line, as keyed hashes: the first decides, a person may add others."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, select

from pipeline.ledger.rows import InstanceRow, StudyPatientRow, read_all
from pipeline.ledger.scope import Scope
from pipeline.ledger.tables import instance, study_patient
from pipeline.model import InstanceCode, InstanceState


def of_studies(connection: Connection, scope: Scope, studies: Collection[str]) -> list[StudyPatientRow]:
    """Return the known patients of these studies."""
    rows: list[StudyPatientRow] = []
    for study in studies:
        rows += read_all(StudyPatientRow, connection.execute(_OF_STUDY, {"scope": scope, "study": study}))
    return rows


_OF_STUDY = select(study_patient).where(
    study_patient.c.scope == bindparam("scope"), study_patient.c.study_instance_uid == bindparam("study")
)


def of_arrival(connection: Connection, arrival: str) -> list[dict[str, Any]]:
    """Return the patients known by an arrival, for its account."""
    rows = connection.execute(_OF_ARRIVAL, {"arrival": arrival}).mappings()
    return [{**row, "scope": row["scope"].text} for row in rows]


_OF_ARRIVAL = (
    select(study_patient)
    .where(study_patient.c.arrival == bindparam("arrival"))
    .order_by(study_patient.c.at, study_patient.c.identifier)
)


def enter(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Enter patients of studies; raises IntegrityError if another one was entered first meanwhile."""
    for row in rows:
        connection.execute(_ENTER, row)


_ENTER = insert(study_patient)


def enter_missing(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Enter the patients of studies that are not known yet."""
    for row in rows:
        is_it = [study_patient.c[name] == row[name] for name in study_patient.primary_key.columns.keys()]  # noqa: SIM118
        if not connection.scalar(select(exists(select(study_patient.c.at).where(*is_it)))):
            connection.execute(insert(study_patient).values(**row))


def set_aside(connection: Connection, study: str) -> list[InstanceRow]:
    """Return the kept instances of a study set aside as another patient's, in the order received."""
    wanted = select(instance).where(
        instance.c.study_instance_uid == study,
        instance.c.state == InstanceState.QUARANTINED,
        instance.c.code == InstanceCode.OTHER_PATIENT,
        instance.c.discarded_at.is_(None),
    )
    return read_all(InstanceRow, connection.execute(wanted.order_by(instance.c.id)))
