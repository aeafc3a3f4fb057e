"""How the ledger of a file gets to a PostgreSQL server, whole and once."""

import subprocess
import sys
from contextlib import closing

import pytest
from sqlalchemy import inspect, update
from support.sites import ledger_place
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working
from support.sites.older_ledger import back_to_version_2

from pipeline.commands.check import findings
from pipeline.commands.migrate import migrate, sentences
from pipeline.commands.relocate import relocate
from pipeline.errors import Configuration, Transient, Usage
from pipeline.ledger import FILE_NAME, SPOOL, Ledger, Server, migrations, open_ledger
from pipeline.ledger.tables import METADATA, arrival
from pipeline.operate.status import status
from pipeline.operate.trace import trace
from pipeline.sending.send import send
from pipeline.site.site_ledger import ledger_of
from pipeline.site.worker_state import AnotherWorks
from pipeline.web.order_service import CurrentLedger
from pipeline.web.serve import serve

pytestmark = pytest.mark.programs


@pytest.fixture
def url(postgresql_server):
    with ledger_place.on(postgresql_server) as address:
        yield address


def open_on(url: str, spool) -> Ledger:
    ledger, _ = open_ledger(spool, Server(url))
    return ledger


def test_a_file_is_taken_to_the_server_whole_and_the_site_goes_on_there(url, tmp_path):
    """What was delivered stays delivered, and the numbers of orders go on."""
    given = [instance(tmp_path, name) for name in ("first", "second")]
    on_file = settings_for(tmp_path, ledger="")
    with working(on_file) as (site, worker):
        arrive(site.spool, given[0])
        rounds(worker, until=all_settled(site))
        assert send(site.ledger, on_file, [given[1]], "nowhere").order_id == 1
        before = trace("1.3.6.1.4.1.5962.1.2.1.20040119072730.12322", site.ledger)
        assert before["studies"]
        with pytest.raises(AnotherWorks):
            relocate(settings_for(tmp_path))
    on_server = settings_for(tmp_path)
    with pytest.raises(Configuration, match="storestow relocate"), working(on_server):
        pass
    assert "rows are in postgresql://" in relocate(on_server)
    assert not (tmp_path / "spool" / FILE_NAME).exists()
    assert (tmp_path / "spool" / f"{FILE_NAME}.moved").exists()
    with working(on_server) as (site, worker):
        assert trace("1.3.6.1.4.1.5962.1.2.1.20040119072730.12322", site.ledger) == before
        assert send(site.ledger, on_server, [given[1]], "nowhere").order_id == 2
        arrive(site.spool, given[0])
        rounds(worker, until=lambda: states(site, "instances").get("duplicate") == 1 and all_settled(site)())
        assert status(on_server, site.ledger)["ledger"]["bytes"] > 0
    with pytest.raises(Usage, match="there is no"):
        relocate(on_server)


def test_a_move_that_was_killed_after_the_commit_only_puts_the_file_aside(url, tmp_path):
    on_file, on_server = settings_for(tmp_path, ledger=""), settings_for(tmp_path)
    with working(on_file):
        pass
    copy = (tmp_path / "spool" / FILE_NAME).read_bytes()
    assert "rows are in postgresql://" in relocate(on_server)
    (tmp_path / "spool" / f"{FILE_NAME}.moved").unlink()
    (tmp_path / "spool" / FILE_NAME).write_bytes(copy)
    assert "were in postgresql://" in relocate(on_server)
    assert not (tmp_path / "spool" / FILE_NAME).exists()
    assert (tmp_path / "spool" / f"{FILE_NAME}.moved").read_bytes() == copy


def test_a_file_that_was_used_after_its_move_is_not_put_aside_for_the_older_ledger_on_the_server(url, tmp_path):
    on_file, on_server = settings_for(tmp_path, ledger=""), settings_for(tmp_path)
    with working(on_file) as (site, worker):
        arrive(site.spool, instance(tmp_path, "first"))
        rounds(worker, until=all_settled(site))
    relocate(on_server)
    (tmp_path / "spool" / f"{FILE_NAME}.moved").rename(tmp_path / "spool" / FILE_NAME)
    with closing(Ledger(tmp_path / "spool" / FILE_NAME)) as file, file.transaction() as connection:
        connection.execute(update(arrival).values(hidden_files=1))  # no row more, no new number
    with pytest.raises(Configuration, match=r"is not what was moved to it.* empty the database"):
        relocate(on_server)
    assert (tmp_path / "spool" / FILE_NAME).exists()
    assert not (tmp_path / "spool" / f"{FILE_NAME}.moved").exists()


def test_the_file_of_an_earlier_move_is_not_written_over(url, tmp_path):
    with working(settings_for(tmp_path, ledger="")):
        pass
    (tmp_path / "spool" / f"{FILE_NAME}.moved").write_text("of an earlier move")
    with pytest.raises(Configuration, match=f"{FILE_NAME}.moved .* put it elsewhere"):
        relocate(settings_for(tmp_path))
    assert (tmp_path / "spool" / f"{FILE_NAME}.moved").read_text() == "of an earlier move"
    assert (tmp_path / "spool" / FILE_NAME).exists()


def test_no_worker_uses_a_ledger_on_a_server_while_the_spool_has_one_in_a_file(url, tmp_path):
    on_file, on_server = settings_for(tmp_path, ledger=""), settings_for(tmp_path)
    for settings in (on_server, on_file):
        with working(settings):
            pass
    with pytest.raises(Configuration, match=r"storestow relocate.*put the file elsewhere"), working(on_server):
        pass
    (tmp_path / "spool" / FILE_NAME).unlink()
    with working(on_server):
        pass


def test_neither_commands_nor_http_use_the_server_while_the_spool_has_a_ledger_in_a_file(url, tmp_path):
    on_file, on_server = settings_for(tmp_path, ledger=""), settings_for(tmp_path)
    with working(on_server):
        pass
    serving = CurrentLedger(on_server)
    serving.open()
    with working(on_file):
        pass
    both_remedies = r"storestow relocate.*put the file elsewhere"
    for use in (ledger_of, serve):
        with pytest.raises(Configuration, match=both_remedies):
            use(on_server)
    with pytest.raises(Transient, match=both_remedies):
        serving.open()
    found = [finding for finding in findings(on_server) if finding.about == "ledger"]
    assert [finding.level for finding in found] == ["error"]
    (tmp_path / "spool" / FILE_NAME).unlink()
    serving.open().close()


def test_a_file_of_another_user_is_not_moved(url, tmp_path, monkeypatch):
    with working(settings_for(tmp_path, ledger="")):
        pass
    monkeypatch.setattr("os.geteuid", lambda: (tmp_path / "spool" / FILE_NAME).stat().st_uid + 1)
    with pytest.raises(Usage, match="run this as that user: sudo -u"):
        relocate(settings_for(tmp_path))
    assert (tmp_path / "spool" / FILE_NAME).exists()


def test_a_file_is_not_taken_to_a_server_that_another_spool_uses(url, tmp_path):
    (tmp_path / "other").mkdir()
    open_on(url, tmp_path / "other").close()
    with working(settings_for(tmp_path, ledger="")):
        pass
    with pytest.raises(Configuration, match="another spool"):
        relocate(settings_for(tmp_path))
    assert (tmp_path / "spool" / FILE_NAME).exists()
    assert not (tmp_path / "spool" / f"{FILE_NAME}.moved").exists()


def test_a_file_goes_nowhere_without_a_server(tmp_path):
    with pytest.raises(Usage, match="names no server"):
        relocate(settings_for(tmp_path, ledger=""))


def test_a_ledger_of_an_earlier_release_waits_for_a_person_who_has_copied_it(url, tmp_path):
    settings = settings_for(tmp_path)
    with working(settings) as (site, _):
        back_to_version_2(site.ledger)
    with pytest.raises(Configuration, match=r"pg_dump .* `storestow migrate`"), working(settings):
        pass
    assert "pg_dump" in "".join(sentences(migrate(settings, dry_run=True)))
    answer = migrate(settings, dry_run=False)
    assert (answer["done"], answer["version"], answer["copy"]) == (True, 2, None)
    assert "is up to date" in "".join(sentences(migrate(settings, dry_run=False)))
    with working(settings) as (site, _):
        assert site.ledger.noted("schema") == str(migrations.newest())
        with site.ledger.reading() as connection:
            assert set(METADATA.tables) == set(inspect(connection).get_table_names())
    assert (tmp_path / "spool" / SPOOL).exists()


def test_a_site_on_one_machine_loads_no_driver_of_a_server(tmp_path):
    program = (
        "import importlib, pkgutil, sys, pipeline\n"
        "names = [m.name for m in pkgutil.walk_packages(pipeline.__path__, 'pipeline.')]\n"
        "for name in names:\n"
        "    if name not in {'pipeline.ledger.postgresql', 'pipeline.__main__'}: importlib.import_module(name)\n"
        "from pathlib import Path\n"
        "from pipeline.ledger import open_ledger\n"
        "open_ledger(Path(sys.argv[1]))[0].close()\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('psycopg', 'procrastinate')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
