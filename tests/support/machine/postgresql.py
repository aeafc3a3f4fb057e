"""A PostgreSQL server of the tests' own, on a private socket; the system's clusters are left alone.

On a machine of a test's own network it listens on TCP, too. It may have a standby.
"""

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.machine.dicom_programs import stop, wait_until
from support.machine.network import Machine

DURABILITY_IS_NOT_TESTED = ("fsync=off", "full_page_writes=off")
SETTINGS = ("max_connections=200", "shared_buffers=32MB", "autovacuum=off", "lc_messages=C")


def programs() -> Path:
    """Return the folder of the newest server programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    assert on_path, "PostgreSQL is missing: machine/programs.sh installs it"
    return Path(on_path).parent


# PostgreSQL refuses to run as root.
USER = "postgres" if os.geteuid() == 0 else None


def run(argv: Sequence[str | Path], folder: Path) -> None:
    done = subprocess.run([str(word) for word in argv], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def as_user(name: str, *words: str) -> list[str]:
    """Return the command line of a program of PostgreSQL, as the user who may run it."""
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if USER else []
    return [*drop, str(programs() / name), *words]


def new_folder() -> Path:
    """Return an empty folder of that user; its path is short, because a socket's may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="storestow-pg-"))
    if USER:
        account = pwd.getpwnam(USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


@functools.cache
def fresh_data() -> Path:
    """Return the data of a server that has never run, to be copied: initdb takes a second of the processor."""
    folder = new_folder()
    atexit.register(shutil.rmtree, folder)
    words = ("--no-sync", "--auth=trust", "--username=storestow", "--locale=C", "--encoding=UTF8")
    run(as_user("initdb", *words, f"--pgdata={folder}/data"), folder)
    return folder / "data"


class PostgresqlServer:
    """A running server; `folder` holds its data and its socket. With an `address` it is reached by TCP there.

    On a `machine` it is reached by TCP at its address, and by its socket by the test.
    `settings` are those of postgres besides, as `name=value`. With `copy_of` the data are a copy of another
    server's, whose standby this one is until `promote`.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "",
        *,
        machine: Machine | None = None,
        settings: Sequence[str] = DURABILITY_IS_NOT_TESTED,
        copy_of: "PostgresqlServer | None" = None,
    ) -> None:
        self.folder = folder
        self.machine = machine
        self._address = address
        self.settings = tuple(settings)
        self._process: subprocess.Popen[bytes] | None = None
        if copy_of is not None:
            source = f"{copy_of.tcp('')}?" if machine else f"{copy_of.url('')}&"
            source += "application_name=standby"
            # Otherwise it waits for the next checkpoint, which is made slowly: for two minutes.
            how = ("--checkpoint=fast", "--write-recovery-conf")
            self._run("pg_basebackup", f"--pgdata={folder}/data", f"--dbname={source}", *how)
            return
        run(["cp", "--archive", fresh_data(), folder / "data"], folder)
        if address or machine:
            with (folder / "data/pg_hba.conf").open("a") as rules:
                rules.write(f"host all,replication all {'192.0.2.0/24' if machine else 'samenet'} trust\n")

    def _argv(self, name: str, *words: str) -> list[str]:
        argv = as_user(name, *words)
        return self.machine.inside(*argv) if self.machine else argv

    def _run(self, name: str, *words: str) -> None:
        run(self._argv(name, *words), self.folder)

    def start(self) -> None:
        address = self.machine.address if self.machine else self._address
        settings = (*SETTINGS, *self.settings, f"listen_addresses={address}")
        words = [word for setting in settings for word in ("-c", setting)]
        words += ["-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            argv = self._argv("postgres", "-D", f"{self.folder}/data", *words)
            self._process = subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log)
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

    def promote(self) -> None:
        """Let a standby become a server of its own, and wait until it takes writes."""
        self._run("pg_ctl", "promote", f"--pgdata={self.folder}/data", "--wait")

    def url(self, database: str, *others: "PostgresqlServer") -> str:
        """Return the address of this server, or of whichever of it and its standbys takes writes."""
        hosts = ",".join(str(one._address or one.folder) for one in (self, *others))
        return f"postgresql://storestow@/{database}?host={hosts}" + (
            "&target_session_attrs=read-write" if others else ""
        )

    def tcp(self, database: str, *others: "PostgresqlServer") -> str:
        """Return the address by TCP of this server, or of whichever of it and its standbys takes writes."""
        machines = [one.machine for one in (self, *others) if one.machine]
        hosts = ",".join(machine.address for machine in machines)
        return f"postgresql://storestow@{hosts}/{database}" + (
            "?target_session_attrs=read-write" if others else ""
        )

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
def postgresql(
    address: str = "",
    *,
    machine: Machine | None = None,
    settings: Sequence[str] = DURABILITY_IS_NOT_TESTED,
    copy_of: PostgresqlServer | None = None,
) -> Iterator[PostgresqlServer]:
    """Run a server in a folder of its own."""
    folder = new_folder()
    try:
        server = PostgresqlServer(folder, address, machine=machine, settings=settings, copy_of=copy_of)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
