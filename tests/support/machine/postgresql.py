"""A PostgreSQL server of the tests' own, on a private socket; the system's clusters are left alone."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.machine.dicom_programs import stop, wait_until

DURABILITY_IS_NOT_TESTED = ("fsync=off", "full_page_writes=off")
SETTINGS = (
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=32MB",
    "autovacuum=off",
    "lc_messages=C",
    *DURABILITY_IS_NOT_TESTED,
)


def programs() -> Path:
    """Return the folder of the newest server programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    assert on_path, "PostgreSQL is missing: machine/programs.sh installs it"
    return Path(on_path).parent


class PostgresqlServer:
    """A running server; `folder` holds its data and its socket. With an `address` it is reached by TCP there."""

    def __init__(self, folder: Path, address: str = "") -> None:
        self.folder = folder
        self._address = address
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        words = ("--no-sync", "--auth=trust", "--username=storestow", "--locale=C", "--encoding=UTF8")
        self._run("initdb", *words, f"--pgdata={folder}/data")
        if address:
            with (folder / "data/pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [programs() / program, *words], user=self._user, cwd=self.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        words = [word for setting in SETTINGS for word in ("-c", setting)]
        words += ["-c", f"unix_socket_directories={self.folder}", "-c", f"listen_addresses={self._address}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs() / "postgres", "-D", f"{self.folder}/data", *words],
                user=self._user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, seconds=60, what=f"PostgreSQL\n{self.folder}/log")

    def _answers(self) -> bool:
        import psycopg  # here, so that who needs no server needs no driver

        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres")):
            return True
        return False

    def stop(self, mode: str = "immediate") -> None:
        """End the server; "immediate" is what a crash of it leaves."""
        if self._process is not None:
            self._run("pg_ctl", "stop", f"--pgdata={self.folder}/data", f"--mode={mode}")
            stop(self._process)
            self._process = None

    def url(self, database: str) -> str:
        return f"postgresql://storestow@/{database}?host={self._address or self.folder}"

    @contextlib.contextmanager
    def database(self, name: str, *options: str) -> Iterator[str]:
        """Have a new database during the block; return its address."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 {' '.join(options)}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def postgresql(address: str = "") -> Iterator[PostgresqlServer]:
    """Run a server; its folder has a short path, because a socket's may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="storestow-pg-"))
    server = PostgresqlServer(folder, address)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
