"""kind = "sql": query the tables of the HIS, one SELECT after the other, each in its own database.

A later SELECT may bind what an earlier one returned, so that a patient number from one database is looked up in
another. Values are always bound, never written into the statement.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pipeline.config import secret
from pipeline.config.order_tables import PatientQueryTable, PatientsTable
from pipeline.dicom.accession import AccessionNumber, spellings
from pipeline.dicom.person_names import names_agree
from pipeline.dicom.same_patient import unpadded_identifier
from pipeline.errors import Configuration
from pipeline.patients import (
    FIELDS,
    WHO,
    MoreThanOnePatient,
    Patients,
    PatientsUnavailable,
    PatientUnknown,
    Person,
    told,
)

MOST_ROWS = 1000  # Some systems return a row for each series or image; all must name the same patient.


class SqlPatients(Patients):
    """Run the queries of [[patients.query]] in order."""

    def __init__(self, table: PatientsTable) -> None:
        super().__init__(table)
        for number, query in enumerate(table.query, 1):
            _require_askable(query, number)

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:  # noqa: ARG002
        """Return what the databases answer; see `Patients.find` for what it raises."""
        known: dict[str, str | None] = {"accession_number": str(accession)}
        answered = [known]
        for number, query in enumerate(self.table.query):
            bound = {name: known.get(name) for name in _bound(query)}
            rows = [] if None in bound.values() else _of(accession, self._rows(query, bound))
            if not rows and not number:
                raise PatientUnknown("the database does not know the accession number")
            answered += rows
            known = _together(answered)
        if not any(known.get(field) for field in WHO):
            raise PatientUnknown("the database knows neither medrec_id nor patient_name of the accession number")
        return Person(accession, **{field: known.get(field) for field in FIELDS})

    def _rows(self, query: PatientQueryTable, bound: Mapping[str, Any]) -> list[dict[str, str | None]]:
        with self._connected(query) as connection:
            found = connection.execute(text(query.select), dict(bound))
            names = [name.lower() for name in found.keys()]  # noqa: SIM118  # a result's keys, no dictionary's
            rows = found.fetchmany(MOST_ROWS + 1)
        if len(rows) > MOST_ROWS:
            raise PatientsUnavailable(f"the database returns more than {MOST_ROWS} rows; narrow the SELECT")
        return [{name: told(name, value) for name, value in zip(names, row, strict=True)} for row in rows]

    @contextlib.contextmanager
    def _connected(self, query: PatientQueryTable) -> Iterator[Connection]:
        url = _with_password(query)
        limits = _limits(url, self.table.timeout.total_seconds())
        try:
            with create_engine(url, poolclass=NullPool, connect_args=limits).connect() as connection:
                yield connection
        except ProgrammingError as error:
            raise PatientsUnavailable(f"the database refuses the SELECT: {type(error.orig).__name__}") from error
        except SQLAlchemyError as error:
            raise PatientsUnavailable(f"the database does not answer: {type(error).__name__}") from error


def _of(accession: AccessionNumber, rows: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """Leave out rows of another accession number; raises PatientUnknown if the right one cannot be told.

    In some databases a1 equals A1, and blanks are ignored.
    """
    known = spellings(accession, (row.get("accession_number", accession) or "" for row in rows))
    if len(known) > 1:
        raise PatientUnknown(f"the database spells the accession number in several ways: {', '.join(known)}")
    return [row for row in rows if row.get("accession_number", accession) in known]


def _together(rows: Sequence[Mapping[str, str | None]]) -> dict[str, str | None]:
    """Return the first value of each column; raises MoreThanOnePatient if the rows name two.

    Each row is compared with each other one: MARIA LOPEZ and MARIA GOMEZ both agree with MARIA.
    """
    for column in WHO:
        values = list(dict.fromkeys(value for row in rows if (value := row.get(column))))
        if not all(_is_same(column, one, other) for one, other in combinations(values, 2)):
            raise MoreThanOnePatient(f"the database has more than one {column} under the accession number")
    together: dict[str, str | None] = {}
    for row in rows:
        together |= {name: value for name, value in row.items() if value and not together.get(name)}
    return together


def _is_same(column: str, one: str, other: str) -> bool:
    if column == "medrec_id":
        return unpadded_identifier(one) == unpadded_identifier(other)
    return names_agree(one, other)


def _bound(query: PatientQueryTable) -> tuple[str, ...]:
    return tuple(text(query.select).compile().params)


def _require_askable(query: PatientQueryTable, number: int) -> None:
    """Raise Configuration if a query cannot work, before it is first used."""
    about = f"[[patients.query]] number {number}"
    try:
        url = make_url(query.url)
        url.get_dialect().import_dbapi()
    except ArgumentError as error:
        raise Configuration(f"{about}: url is no SQLAlchemy address, as mysql+pymysql://user@host/db") from error
    except (NoSuchModuleError, ImportError) as error:
        raise Configuration(f"{about}: the driver of {url.drivername} is not installed") from error
    if url.password is not None:
        raise Configuration(f"{about}: url holds a password; write password_env or password_file")
    if query.password_env is not None and query.password_file is not None:
        raise Configuration(f"{about}: write one of password_env and password_file")
    if number == 1 and "accession_number" not in _bound(query):
        raise Configuration(f"{about}: select must use the bound parameter :accession_number")


def _with_password(query: PatientQueryTable) -> URL:
    url = make_url(query.url)
    if query.password_env is None and query.password_file is None:
        return url
    return url.set(password=secret.read("password", query.password_env, query.password_file))


def _limits(url: URL, seconds: float) -> dict[str, Any]:
    """Return the options that make the driver give up in time; drivers not listed keep their own limits."""
    whole, milliseconds = max(1, round(seconds)), round(1000 * seconds)
    per_driver: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": seconds},
        "pymysql": {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole},
        "mysqldb": {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole},
        "psycopg": {"connect_timeout": whole, "options": f"-c statement_timeout={milliseconds}"},
        "psycopg2": {"connect_timeout": whole, "options": f"-c statement_timeout={milliseconds}"},
    }
    return per_driver.get(url.get_driver_name(), {})


PATIENTS = SqlPatients
