"""guard = { kind = "sql", url, query }: ask a database that knows where studies belong."""

import re
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import model_validator
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    NoSuchModuleError,
    NoSuchTableError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool

from pipeline.config import secret
from pipeline.config.keys import AbsolutePath
from pipeline.dicomweb.qido import Qido
from pipeline.errors import Configuration, Transient
from pipeline.guards import Guard

_MOST_ROWS = 1000
# Time-outs by driver, so that a database that hangs does not keep a delivery waiting. Other drivers keep theirs.
_TIMEOUTS: dict[str, dict[str, Any]] = {
    "pysqlite": {"timeout": 10},
    "psycopg": {"connect_timeout": 10, "options": "-c statement_timeout=30000"},
    "psycopg2": {"connect_timeout": 10, "options": "-c statement_timeout=30000"},
    "pymysql": {"connect_timeout": 10, "read_timeout": 30},
    "mysqldb": {"connect_timeout": 10, "read_timeout": 30},
}


class SqlGuard(Guard):
    """Run `query` with the study's UID bound to :study_instance_uid.

    It returns one column of Institution Names.
    """

    kind: Literal["sql"]
    url: str
    """SQLAlchemy's address of the database, without a password. Example: `"postgresql+psycopg://reader@db/ris"`"""
    query: str
    """The statement; it returns one column of Institution Names.
    Example: `"SELECT institution FROM study WHERE uid = :study_instance_uid"`"""
    password_env: str | None = None
    """Environment variable that holds the password. Example: `"GUARD_PASSWORD"`"""
    password_file: AbsolutePath | None = None
    """File that holds the password, readable by its owner alone. Example: `"/etc/storestow/guard.password"`"""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        try:
            url = make_url(self.url)
        except ArgumentError as error:
            raise ValueError(
                "guard.url is no SQLAlchemy address, as in postgresql+psycopg://user@host/db"
            ) from error
        if url.password is not None:
            raise ValueError("guard.url holds a password; write password_env or password_file")
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("write one of password_env and password_file")
        if not re.search(r":study_instance_uid\b", self.query):
            raise ValueError("guard.query must use the bound parameter :study_instance_uid")
        return self

    def institutions_of(self, study_instance_uid: str, archive: Qido) -> Iterable[str]:  # noqa: ARG002
        """Return the names that the query finds.

        Raises Transient if the database does not answer, Configuration if the driver or the query is wrong.
        """
        url = self._url_with_password()
        try:
            engine = create_engine(url, poolclass=NullPool, connect_args=_TIMEOUTS.get(url.get_driver_name(), {}))
            with engine.connect() as connection:
                found = connection.execute(text(self.query), {"study_instance_uid": study_instance_uid})
                if len(found.keys()) != 1:
                    raise Configuration(
                        "guard.query returns more than one column; select the Institution Name only"
                    )
                return [str(name) for (name,) in found.fetchmany(_MOST_ROWS) if name is not None]
        except (NoSuchModuleError, ImportError) as error:
            raise Configuration(f"guard.url: the driver of {url.drivername} is not installed") from error
        except (ArgumentError, NoSuchTableError, ProgrammingError) as error:
            raise Configuration(f"guard.query is refused by the database: {type(error).__name__}") from error
        except SQLAlchemyError as error:
            raise Transient(f"guard.url: the database does not answer: {type(error).__name__}") from error

    def _url_with_password(self) -> URL:
        url = make_url(self.url)
        if self.password_env is None and self.password_file is None:
            return url
        return url.set(password=secret.read("password", self.password_env, self.password_file))


GUARD = SqlGuard
