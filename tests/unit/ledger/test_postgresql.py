"""A ledger on a PostgreSQL server: what it refuses to use, what is tried again, how a file's ledger gets there."""

import subprocess
import sys
import threading
from contextlib import closing
from urllib.parse import quote

import pytest
from sqlalchemy import inspect, select, text, update
from sqlalchemy.exc import ProgrammingError
from support.machine.postgresql import postgresql
from support.sites import ledger_place
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working
from support.sites.older_ledger import back_to_version_2

from pipeline.commands.check import findings
from pipeline.commands.migrate import migrate, sentences
from pipeline.commands.relocate import relocate
from pipeline.config.site_table import SiteTable
from pipeline.errors import Configuration, Transient, Usage
from pipeline.ledger import FILE_NAME, SPOOL, Ledger, Server, migrations, notes, open_ledger
from pipeline.ledger.tables import METADATA, arrival, orders
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


def test_a_restart_of_the_server_costs_an_attempt_and_no_more(tmp_path):
    with postgresql() as server, server.database("ledger") as url:
        ledger = open_on(url, tmp_path)

        def write_while_it_ends() -> None:
            with ledger.transaction() as connection:
                server.stop()
                notes.write(connection, "key", "lost")

        with pytest.raises(Transient, match="postgresql://"):
            write_while_it_ends()
        for _ in range(2):
            with pytest.raises(Transient), ledger.reading():
                pass
        server.start()
        with ledger.transaction() as connection:
            assert notes.read(connection, "key") is None
            notes.write(connection, "key", "kept")
        server.stop()
        server.start()
        assert ledger.noted("key") == "kept", "the pool's dead connections are not handed out"
        ledger.close()


def test_a_connection_that_is_cut_is_transient_and_the_next_one_works(url, tmp_path, postgresql_server):
    ledger = open_on(url, tmp_path)

    def write_while_it_is_cut() -> None:
        with ledger.transaction() as connection:
            me = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            postgresql_server.execute(f"SELECT pg_terminate_backend({me})")
            notes.write(connection, "key", "value")

    with pytest.raises(Transient, match="terminating connection"):
        write_while_it_is_cut()
    assert ledger.noted("key") is None
    ledger.close()


def test_who_waits_too_long_for_his_turn_is_told_to_come_again(url, tmp_path):
    ledger = open_on(f"{url}&options=-c%20lock_timeout%3D100", tmp_path)
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.transaction():
            inside.set()
            go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    with pytest.raises(Transient, match="lock timeout"), ledger.transaction():
        pass
    go.set()
    holder.join()
    with ledger.transaction():
        pass
    ledger.close()


def test_what_the_user_may_not_do_is_for_a_person_and_a_wrong_statement_is_a_bug(url, tmp_path, postgresql_server):
    ledger = open_on(url, tmp_path)
    postgresql_server.execute("DROP ROLE IF EXISTS stranger")
    postgresql_server.execute("CREATE ROLE stranger LOGIN")
    stranger = Ledger(Server(url.replace("storestow@", "stranger@")))
    with pytest.raises(Configuration, match="permission denied"), stranger.reading() as connection:
        connection.execute(select(orders))
    stranger.close()
    with pytest.raises(ProgrammingError), ledger.reading() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")
    with pytest.raises(Exception, match="read-only transaction"), ledger.reading() as connection:
        notes.write(connection, "key", "value")
    ledger.close()


def test_a_statement_that_took_too_long_is_told_of_without_what_it_was_given(url, tmp_path):
    limits = "-c statement_timeout=100 -c log_parameter_max_length_on_error=-1"
    ledger = open_on(f"{url}&options={quote(limits)}", tmp_path)
    asked = text("SELECT pg_sleep(60) WHERE CAST(:name AS text) <> ''")
    with pytest.raises(Transient, match="statement timeout") as caught, ledger.reading() as connection:
        connection.execute(asked, {"name": "DOE^JANE"})
    assert "DOE" in str(caught.value.__cause__)
    assert "DOE" not in str(caught.value)
    ledger.close()


@pytest.mark.parametrize("how", [{}, {"flushed": False, "alone": False}], ids=["flushed", "unflushed"])
def test_a_full_disk_of_the_server_is_transient_and_changes_nothing(how, url, tmp_path):
    ledger = open_on(url, tmp_path)
    full = (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not extend file'"
        " USING ERRCODE = 'disk_full'; END $$"  # SQLSTATE 53100
    )
    with ledger.transaction() as connection:
        connection.exec_driver_sql(full)
        notes.write(connection, "key", "before")
        connection.exec_driver_sql("CREATE TRIGGER f BEFORE UPDATE ON note EXECUTE FUNCTION full_disk()")

    def write() -> None:
        with ledger.transaction(**how) as connection:
            notes.write(connection, "other", "lost")
            notes.write(connection, "key", "lost")

    with pytest.raises(Transient, match="could not extend file"):
        write()
    assert (ledger.noted("key"), ledger.noted("other")) == ("before", None)
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER f ON note")
    write()
    assert ledger.noted("key") == "lost"
    ledger.close()


def test_what_need_not_be_alone_waits_for_nobody_and_is_not_flushed(url, tmp_path):
    ledger = open_on(f"{url}&options=-c%20lock_timeout%3D100", tmp_path)
    with ledger.transaction() as alone:
        notes.write(alone, "key", "value")
        with ledger.transaction(flushed=False, alone=False) as beside:
            notes.write(beside, "beside", "value")
            assert beside.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
        assert alone.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert notes.read(alone, "beside") == "value", "it is committed"
    assert ledger.noted("key") == "value"
    ledger.close()


def test_where_no_server_listens_the_start_is_tried_again_and_nothing_secret_is_said(tmp_path):
    server = Server("postgresql://storestow@127.0.0.1:1/ledger", lambda: "s3cret")
    with pytest.raises(Transient, match="refused") as caught:
        open_ledger(tmp_path, server)
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(
    "options", ["ENCODING SQL_ASCII LOCALE 'C'", "LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C.UTF-8'"]
)
def test_a_database_that_compares_texts_otherwise_is_refused_with_the_command_that_makes_one(
    options, tmp_path, postgresql_server
):
    with postgresql_server.database("otherwise", options) as url:
        with pytest.raises(Configuration, match=r"createdb --template=template0 --encoding=UTF8 --locale=C"):
            open_on(url, tmp_path)
        connection = Ledger(Server(url))
        with connection.reading() as look:
            assert inspect(look).get_table_names() == []
        connection.close()


def test_two_spools_never_share_a_database(url, tmp_path):
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
    open_on(url, tmp_path / "mine").close()
    with pytest.raises(Configuration, match="ledger of another spool"):
        open_on(url, tmp_path / "yours")
    open_on(url, tmp_path / "mine").close()


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ("mysql://h/d", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://host", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://u:secret@h/d", "no password in the ledger's address"),
        ("postgresql://u@h/d?password=secret", "no password in the ledger's address"),
    ],
)
def test_a_wrong_address_is_refused_with_the_right_form_and_without_its_password(ledger, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        SiteTable(spool=tmp_path, ledger=ledger)
    assert "secret" not in caught.value.errors()[0]["msg"]


def test_several_hosts_and_what_libpq_understands_may_stand_in_the_address(tmp_path):
    address = "postgresql://storestow@db1,db2:5433/storestow?target_session_attrs=read-write"
    assert SiteTable(spool=tmp_path, ledger=address).ledger == address
    assert Ledger(Server(address)).name == "postgresql://db1,db2/storestow"


def test_a_password_without_a_server_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="ledger_password_file without ledger"):
        SiteTable(spool=tmp_path, ledger_password_file=tmp_path / "p")


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
