"""A ledger on a PostgreSQL server: what it refuses to use, and what is tried again."""

import socket
import threading
from contextlib import closing
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import ProgrammingError
from support.machine.dicom_programs import wait_until
from support.machine.postgresql import postgresql
from support.sites import ledger_place

from pipeline.config.site_table import SiteTable
from pipeline.errors import Configuration, Transient
from pipeline.ledger import Ledger, Server, notes, open_ledger
from pipeline.ledger.postgresql import led_by
from pipeline.ledger.tables import orders

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


@pytest.mark.parametrize(
    ("last", "ports", "hosts", "their_ports"),
    [
        (("", ""), "", "db1,db2,db3", ",,"),
        (("db2", "5432"), "", "db2,db1,db3", ",,"),
        (("db3", "5435"), "5433,5434,5435", "db3,db1,db2", "5435,5433,5434"),
        (("db3", "5433"), "5433", "db3,db1,db2", "5433,5433,5433"),
        (("db4", "5433"), "5433", "db1,db2,db3", "5433,5433,5433"),
    ],
)
def test_the_host_that_answered_last_is_asked_first(last, ports, hosts, their_ports):
    found = led_by(last, {"host": "db1,db2,db3", "dbname": "ledger"} | ({"port": ports} if ports else {}))
    assert found == {"host": hosts, "port": their_ports, "dbname": "ledger"}


@pytest.mark.parametrize("more", [{"host": "db1"}, {"host": "db1,db2", "hostaddr": "10.0.0.1,10.0.0.2"}, {}])
def test_an_address_without_a_choice_of_hosts_stays_as_it_is(more):
    assert led_by(("db2", "5432"), more) == more


def test_a_host_that_does_not_answer_is_asked_by_one_connection_only(url, tmp_path):
    ours = conninfo_to_dict(url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        ports = f"{silent.getsockname()[1]},{ours.get('port', 5432)}"
        ledger = Ledger(Server(f"{url}&host=127.0.0.1,{ours['host']}&port={ports}&connect_timeout=1"))
        with ledger.reading(), ledger.reading(), ledger.reading():
            pass
        ledger.close()
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_password_without_a_server_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="ledger_password_file without ledger"):
        SiteTable(spool=tmp_path, ledger_password_file=tmp_path / "p")


def test_one_process_does_a_thing_until_it_leaves_it_or_its_connection_is_gone(url, postgresql_server):
    with closing(Ledger(Server(url))) as a, closing(Ledger(Server(url))) as b:
        assert a.holds("orders")
        assert a.holds("orders")
        assert not b.holds("orders")
        assert b.holds("retention")
        a.leave("orders")
        assert b.holds("orders")
        postgresql_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        )
        wait_until(lambda: a.holds("orders"), what="the server gave it back")
        assert not b.holds("orders")
        wait_until(lambda: b.holds("retention"), what="it connects again")


def test_who_wants_to_be_alone_in_a_folder_waits_for_the_other(url, tmp_path):
    came, may_go = [], threading.Event()
    with closing(Ledger(Server(url))) as a, closing(Ledger(Server(url))) as b:

        def second() -> None:
            with b.alone_in(tmp_path / "arrival"):
                came.append("second")

        with a.alone_in(tmp_path / "arrival"):
            waiting = threading.Thread(target=second)
            waiting.start()
            with b.alone_in(tmp_path / "another"):
                may_go.wait(0.2)
            assert came == []
        waiting.join(30)
        assert came == ["second"]


def test_the_history_is_the_servers_timeline_and_stays_over_a_restart(tmp_path):
    with postgresql() as server, server.database("ledger") as url:
        ledger = open_on(url, tmp_path)
        assert ledger.history() == "00000001"
        server.stop()
        with pytest.raises(Transient):
            ledger.history()
        server.start()
        assert ledger.history() == "00000001"
        server.execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC", "ledger")
        server.execute("CREATE USER other", "ledger")
        other = Ledger(Server(url.replace("storestow@", "other@")))
        assert other.history() == "", "where the server does not tell, nothing is concluded"
        for one in (ledger, other):
            one.close()


def test_a_connection_that_is_in_use_while_the_ledger_is_closed_is_closed_after_it(url, tmp_path):
    ledger = open_on(url, tmp_path)
    with ledger.reading() as look:
        connection = look.connection.driver_connection
        ledger.close()
        assert not connection.closed
    assert connection.closed


def test_a_connection_that_is_asked_for_after_the_ledger_was_closed_ends_when_it_is_given_back(url, tmp_path):
    ledger = open_on(url, tmp_path)
    ledger.close()
    with ledger.reading() as look:
        late = look.connection.dbapi_connection
        assert not late.closed
    assert late.closed
