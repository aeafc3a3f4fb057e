"""Association mode with odd peers and a machine that has too little: one association is lost at most."""

import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import dcmsend, echoscu, storescu, wait_until
from support.sites.receiving import (
    CT,
    ROOT,
    Reception,
    files_of,
    received_to_its_end,
    receiving,
    write_instance,
    write_site,
)

from pipeline import dcmtk
from pipeline.receiving.association_process import AssociationServer
from pipeline.receiving.peek import NotAnAssociation, peek
from pipeline.receiving.storescp_start import StorescpStarter
from pipeline.site.settings import load
from pipeline.spool.spool import Spool

pytestmark = pytest.mark.programs

A, B = f"{ROOT}.10", f"{ROOT}.20"


def study(folder: Path, uid: str, count: int, first: int = 1, **more: object) -> list[Path]:
    return [write_instance(folder, first + n, study=uid, **more) for n in range(count)]


def envelopes(r: Reception) -> list[dict[str, object]]:
    return [json.loads((arrival / ".envelope.json").read_bytes()) for arrival in r.arrivals()]


def test_c_echo_is_answered_and_leaves_nothing_behind(tmp_path):
    with receiving(tmp_path, "association") as r:
        assert echoscu(r.port).exit_code == 0
        wait_until(lambda: not list(r.incoming.iterdir()), what="an empty incoming folder")
        assert not r.arrivals()


def test_private_and_unknown_storage_classes_are_accepted_and_queries_are_not(tmp_path):
    with receiving(tmp_path, "association") as r:
        ae = AE(ae_title="PRIVATE")
        wanted = ["1.2.3.4.5.6.7.8", "1.2.840.10008.5.1.4.38.1", CT]
        unwanted = ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"]  # C-FIND, storage commitment
        for uid in [*wanted, *unwanted]:
            ae.add_requested_context(uid, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.1"])
        association = ae.associate("127.0.0.1", r.port)
        accepted = {c.abstract_syntax: c.transfer_syntax[0] for c in association.accepted_contexts}
        association.release()
        assert accepted == dict.fromkeys(wanted, "1.2.840.10008.1.2.1")


def test_a_request_of_128_contexts_and_30_transfer_syntaxes_each_is_accepted(tmp_path):
    many = [f"1.2.840.10008.1.2.4.{n}" for n in range(50, 79)]
    with receiving(tmp_path, "association") as r:
        ae = AE(ae_title="MANY")
        for number in range(128):
            ae.add_requested_context(
                f"1.2.826.0.1.3680043.9.9998.1234567890.1234567890.{number}", [*many, "1.2.840.10008.1.2"]
            )
        association = ae.associate("127.0.0.1", r.port)
        assert len(association.accepted_contexts) == 128
        association.release()


@pytest.mark.parametrize(
    "uid",
    ["..", ".", "1.2.ABC", "1.2;touch${IFS}pwned", "$(touch${IFS}pwned)", "../../escaped", "1." * 149 + "11", ""],
)
def test_a_strange_study_instance_uid_loses_nothing_and_runs_nothing(tmp_path, uid):
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, *study(tmp_path / "out", uid, 2)).acknowledged == 2
        assert [study for study, _ in r.wait_for(2)] == [uid, uid]
        assert not list(tmp_path.rglob("*pwned*")) + list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("title", ["$(id)", "`;|&\"'", "..", "../../x", "-"])
def test_a_strange_ae_title_is_a_label_and_nothing_else(tmp_path, title):
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, *study(tmp_path / "out", A, 1), calling=title).acknowledged == 1
        r.wait_for(1)
        assert envelopes(r)[0]["calling_ae_title"] == title


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\1\0\xff\xff\xff\xff", b"\1\0\0\0\0\0", b""])
def test_what_is_no_association_is_dropped_and_the_next_is_served(tmp_path, words):
    with receiving(tmp_path, "association") as r:
        with socket.create_connection(("127.0.0.1", r.port), timeout=10) as stranger:
            stranger.sendall(words)
            with contextlib.suppress(OSError):  # it may be dropped before we have said all
                stranger.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert echoscu(r.port).exit_code == 0
        assert ("refused receiver=r peer=127.0.0.1" in r.text()) == bool(words)
        assert not r.arrivals()


def test_a_storescp_that_cannot_write_says_so_in_the_log(tmp_path):
    with receiving(tmp_path, "association") as r:
        ae = AE(ae_title="WRITES")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", r.port)
        (folder,) = r.incoming.iterdir()
        folder.rename(tmp_path / "away")
        assert association.send_c_store(dcmread(study(tmp_path / "out", A, 1)[0])).Status != 0
        association.release()
        wait_until(lambda: "program program=storescp receiver=r says=" in r.text(), what="a logged line")


@pytest.fixture
def attendant(tmp_path):
    settings = load(write_site(tmp_path, "association", 11112, more='idle_timeout = "1s"'))
    spool = Spool(settings.site.spool)
    spool.prepare()
    spool.prepare_receiver("r")
    receiver = settings.receiver_named("r")
    with (spool.run / "r.lock").open("wb") as lock:
        starter = StorescpStarter(
            receiver,
            spool.incoming_of("r"),
            dcmtk.program(settings.programs, "storescp"),
            dcmtk.environment(settings.programs),
            lock.fileno(),
        )
        yield AssociationServer(receiver, spool, starter), spool


def test_a_peer_that_says_nothing_is_dropped_in_time():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\1\0\0")
        with pytest.raises(NotAnAssociation, match="in time"):
            peek(ours, patience=0.5)


def test_a_peer_that_brings_nothing_for_the_idle_limit_is_ended_and_what_it_brought_is_kept(attendant, tmp_path):
    server, spool = attendant
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            server.serve(connection, peek(connection), "127.0.0.1", lambda _: None)

        thread = threading.Thread(target=serve)
        thread.start()
        ae = AE(ae_title="IDLE")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", listener.getsockname()[1])
        assert association.send_c_store(dcmread(study(tmp_path / "out", A, 1)[0])).Status == 0
        thread.join(20)
        assert not thread.is_alive()
        association.abort()
    (arrival,) = spool.arrivals.iterdir()
    assert len(files_of(arrival)) == 1


def test_what_an_association_could_not_admit_is_admitted_later(tmp_path):
    with receiving(tmp_path, "association") as r:
        r.spool.arrivals.rename(r.spool.root / "elsewhere")
        assert dcmsend(r.port, *study(tmp_path / "out", A, 2)).acknowledged == 2
        wait_until(lambda: "deferred receiver=r folder=A_" in r.text(), what="an alarm")
        (r.spool.root / "elsewhere").rename(r.spool.arrivals)
        assert len(r.wait_for(2)) == 2


def test_a_machine_without_a_thread_to_spare_costs_one_association(tmp_path):
    shorten = (
        "import threading\n"
        "start, refusals = threading.Thread.start, iter([True])\n"
        "def refuse_once(thread):\n"
        "    if next(refusals, False):\n"
        "        raise RuntimeError('no thread')\n"
        "    start(thread)\n"
        "threading.Thread.start = refuse_once"
    )
    with receiving(tmp_path, "association", shorten=shorten) as r:
        assert echoscu(r.port).exit_code != 0
        wait_until(lambda: "no thread" in r.text(), what="an alarm")
        assert dcmsend(r.port, *study(tmp_path / "out", A, 1)).acknowledged == 1
        r.wait_for(1)


def test_a_bug_costs_one_association(tmp_path):
    shorten = (
        "from pipeline.receiving import association_process\n"
        "written, bugs = association_process.write_envelope, iter([True])\n"
        "def stumble_once(*about, **more):\n"
        "    if next(bugs, False):\n"
        "        raise ZeroDivisionError('a bug')\n"
        "    written(*about, **more)\n"
        "association_process.write_envelope = stumble_once"
    )
    with receiving(tmp_path, "association", shorten=shorten) as r:
        assert echoscu(r.port).exit_code != 0
        assert "ZeroDivisionError" in r.text()
        assert dcmsend(r.port, *study(tmp_path / "out", A, 1)).acknowledged == 1
        r.wait_for(1)


def test_an_address_of_another_machine_is_a_configuration_error_that_names_it(tmp_path):
    site = write_site(tmp_path, "association", 11112, more='bind = "192.0.2.77"')
    done = received_to_its_end(site)
    assert done.returncode == 78
    assert "192.0.2.77" in done.stderr
