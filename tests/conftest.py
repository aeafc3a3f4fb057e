"""What every test may ask for, and what a run must never hide: a missing corpus, a skipped test."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

# Tests start some thousand Python processes. Where the environment forbids bytecode files, as images of containers
# do, each of them would compile the whole package again: two thirds of a second of processor time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pydicom.data
import pytest
from pynetdicom.transport import AssociationSocket
from support.machine.postgresql import PostgresqlServer, postgresql
from support.peers.certificate_authority import Authority, Identity
from support.sites import ledger_place

if TYPE_CHECKING:
    from support.sites.shim_site import RunningShim

    from pipeline.site.site import Site
    from pipeline.worker.worker import Worker

HERE = Path(__file__).resolve().parent
IN_CI = os.environ.get("CI") == "true"
CORPUS = Path(os.environ.get("STORESTOW_CORPUS") or HERE.parent.parent / "shared/corpus/dev")
BUNDLED = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Return the folder of real DICOM objects, or pydicom's bundled ones; in CI only the corpus will do."""
    if CORPUS.is_dir():
        return CORPUS
    if IN_CI:
        pytest.fail("the corpus is not there, and this is CI: set STORESTOW_CORPUS to its folder", pytrace=False)
    return BUNDLED


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who issues the certificates of this run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server(authority: Authority) -> Identity:
    """Return the certificate of whoever listens."""
    return authority.identity("server")


@pytest.fixture(scope="module")
def about_shim() -> dict[str, Any]:
    """Return what `running_shim` is told of the site of `shim`; a file of tests may have its own."""
    return {}


@pytest.fixture(scope="module")
def module_shim(tmp_path_factory: pytest.TempPathFactory, about_shim: dict[str, Any]) -> Iterator["RunningShim"]:
    """Return a shim that serves all tests of a file; it takes half a second to start."""
    from support.sites.shim_site import running_shim  # what most tests do without takes a second to import

    folder = tmp_path_factory.mktemp("shim")
    with pytest.MonkeyPatch.context() as patch, running_shim(folder, patch, **about_shim) as running:
        yield running


@pytest.fixture
def shim(module_shim: "RunningShim") -> "RunningShim":
    """Return the shim of the file, with no orders."""
    module_shim.orders.forget()
    return module_shim


@pytest.fixture
def site_and_worker(tmp_path: Path) -> "Iterator[tuple[Site, Worker]]":
    """Yield a site with a PACS that nobody asks, and its worker, whose rounds the test runs; or a file's own."""
    from support.sites.line_site import working  # as above
    from support.sites.placed_orders import settings_with_pacs

    with working(settings_with_pacs(tmp_path)) as both:
        yield both


@pytest.fixture
def site(site_and_worker: "tuple[Site, Worker]") -> "Site":
    """Return the site of the test."""
    return site_and_worker[0]


@pytest.fixture
def worker(site_and_worker: "tuple[Site, Worker]") -> "Worker":
    """Return the worker of the test's site."""
    return site_and_worker[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ledger", choices=("sqlite", "postgresql"), default="sqlite", help="where ledgers are kept")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the ledger's statements on both databases."""
    if metafunc.definition.get_closest_marker("both_databases"):
        databases = ["sqlite", pytest.param("postgresql", marks=pytest.mark.programs)]
        metafunc.parametrize("ledger_database", databases, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--ledger") == "postgresql":
        file_only = [item for item in items if item.get_closest_marker("sqlite_file")]
        config.hook.pytest_deselected(items=file_only)
        items[:] = [item for item in items if item not in file_only]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Return a PostgreSQL server of this run's own."""
    with postgresql() as server:
        yield server


@pytest.fixture(autouse=True)
def ledger_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return which database the ledgers of the test are in; on PostgreSQL each test has its own."""
    name: str = getattr(request, "param", request.config.getoption("--ledger"))
    with contextlib.ExitStack() as stack:
        if name == "postgresql":
            stack.enter_context(ledger_place.on(request.getfixturevalue("postgresql_server")))
        yield name


@pytest.fixture(scope="session", autouse=True)
def _no_socket_is_forgotten() -> Iterator[None]:
    """Close pynetdicom's sockets: it forgets one whose peer was reset, and a later test is told of it."""
    shut_down = AssociationSocket._shutdown_socket

    def close(self: AssociationSocket) -> None:
        connection = self.socket
        shut_down(self)
        with contextlib.suppress(AttributeError):  # it was closed before
            connection.close()

    with mock.patch.object(AssociationSocket, "_shutdown_socket", close):
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # None in a worker of pytest-xdist
    skipped = reporter is not None and reporter.stats.get("skipped")
    if skipped and IN_CI and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        verdict = "which fails the run in CI" if IN_CI else "in CI this would fail the run"
        terminalreporter.write_line(f"WARNING: {skipped} skipped, {verdict}", red=IN_CI, yellow=not IN_CI)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, text in getattr(report, "user_properties", []):
                if name.startswith("table: "):  # what a test recorded for people to read
                    terminalreporter.section(name.removeprefix("table: "))
                    terminalreporter.write_line(text)
    if not CORPUS.is_dir():
        terminalreporter.write_line(
            "WARNING: the corpus is not there, tests used the files pydicom brings along", yellow=True
        )
