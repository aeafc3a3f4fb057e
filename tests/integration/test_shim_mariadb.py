"""The tables of the HIS in a real MariaDB: one look, because the rest is tried on SQLite."""

import getpass
import subprocess

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from support.machine.dicom_programs import ENVIRONMENT, free_port, program, running, wait_until

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.patients import PatientsUnavailable, PatientUnknown, from_table

pytestmark = pytest.mark.programs

TABLES = """
CREATE DATABASE results CHARACTER SET utf8mb4;
CREATE DATABASE people CHARACTER SET latin1;
CREATE TABLE results.pacs_result_series
 (accession_number VARCHAR(16), medrec_id INT, reg_id INT, modality VARCHAR(16));
CREATE TABLE people.medrec (medrec_id INT PRIMARY KEY, name VARCHAR(64));
INSERT INTO results.pacs_result_series VALUES ('A1', 4711, 12, 'CT'), ('A1', 4711, 12, 'SR');
INSERT INTO people.medrec VALUES (4711, 'NÚÑEZ JOSÉ');
CREATE USER his@'127.0.0.1' IDENTIFIED BY 's3cret';
GRANT SELECT ON results.* TO his@'127.0.0.1';
GRANT SELECT ON people.* TO his@'127.0.0.1';
"""
QUERIES = {
    "results": "SELECT accession_number, medrec_id, reg_id, modality FROM pacs_result_series"
    " WHERE accession_number = :accession_number",
    "people": "SELECT name AS patient_name FROM medrec WHERE medrec_id = :medrec_id",
}


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory):
    """A MariaDB of the test's own; yields its port and the process."""
    folder = tmp_path_factory.mktemp("mariadb")
    about = [f"--datadir={folder}/data", f"--user={getpass.getuser()}"]
    install = [program("mariadb-install-db"), "--no-defaults", *about, "--auth-root-authentication-method=normal"]
    made = subprocess.run(
        [*install, "--skip-test-db", "--innodb-log-file-size=8M"],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    port = free_port()
    server = [program("mariadbd"), "--no-defaults", *about, f"--port={port}", "--bind-address=127.0.0.1"]
    small = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--skip-name-resolve"]
    with running([*server, f"--socket={folder}/socket", *small], log=folder / "log") as process:
        root = create_engine(f"mysql+pymysql://root@127.0.0.1:{port}/mysql", poolclass=NullPool)
        wait_until(lambda: process.poll() is not None or answers(root), seconds=60, what="MariaDB")
        assert process.poll() is None, (folder / "log").read_text()
        with root.begin() as connection:
            for statement in TABLES.strip().split(";"):
                if statement.strip():
                    connection.execute(text(statement))
        yield port, process


def answers(engine):
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


def test_two_databases_of_a_real_mariadb_say_together_who_it_is(mariadb, monkeypatch):
    port, process = mariadb
    monkeypatch.setenv("HIS_PASSWORD", "s3cret")
    tables = [
        {"url": f"mysql+pymysql://his@127.0.0.1:{port}/{name}", "select": select, "password_env": "HIS_PASSWORD"}
        for name, select in QUERIES.items()
    ]
    patients = from_table(PatientsTable.model_validate({"kind": "sql", "timeout": "5s", "query": tables}))
    person = patients.find(AccessionNumber("A1"), ())
    assert (person.patient_name, person.medrec_id, person.reg_id) == ("NÚÑEZ JOSÉ", "4711", "12")
    # the database finds it, no other spelling is there, and the answer keeps what was asked
    found = patients.find(AccessionNumber("a1"), ())
    assert (found.accession_number, found.medrec_id) == ("a1", "4711")
    with pytest.raises(PatientUnknown):
        patients.find(AccessionNumber("A2"), ())
    process.kill()
    process.wait()
    with pytest.raises(PatientsUnavailable):
        patients.find(AccessionNumber("A1"), ())
