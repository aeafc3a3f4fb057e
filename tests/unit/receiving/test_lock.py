"""The lock of a receiver: held as long as any process may write, whoever died; and the sweep behind it."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.receiving import is_receiving, sweep_abandoned
from pipeline.receiving import lock as module
from pipeline.receiving.lock import held, lock_file
from pipeline.receiving.sweep import signature_of, take_all
from pipeline.spool.spool import Spool

CT = ReceiverTable(name="ct", ae_title="STORESTOW", port=11112)


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    spool.prepare_receiver("ct")
    return spool


def put(spool: Spool, name: str, *files: str) -> Path:
    folder = spool.incoming_of("ct") / name
    folder.mkdir()
    for file in files:
        (folder / file).write_bytes(b"pixels")
    return folder


def arrivals(spool: Spool) -> list[str]:
    return sorted(folder.name for folder in spool.arrivals.iterdir())


def test_nobody_receives_where_no_lock_was_ever_taken(spool):
    assert not is_receiving(spool, "ct")
    assert not lock_file(spool, "ct").exists()


def test_a_receiver_is_receiving_while_it_holds_its_lock(spool):
    with held(spool, CT):
        assert is_receiving(spool, "ct")
        assert not is_receiving(spool, "mr")
    assert not is_receiving(spool, "ct")


def test_the_lock_tells_who_holds_it(spool):
    with held(spool, CT):
        about = json.loads(lock_file(spool, "ct").read_bytes())
    assert about.pop("started_ns") > 0
    assert about == {"pid": os.getpid(), "mode": "study", "port": 11112}


def test_asking_does_not_disturb_others_who_ask(spool):
    with held(spool, CT):
        pass
    with lock_file(spool, "ct").open("rb") as other:
        assert module._take(other.fileno(), module.fcntl.LOCK_SH)
        assert not is_receiving(spool, "ct")


def test_a_child_that_inherited_the_lock_keeps_it_when_its_parent_is_gone(spool):
    with held(spool, CT) as descriptor:
        child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=(descriptor,))
    try:
        assert is_receiving(spool, "ct")
        put(spool, "S_1", "CT.1")
        assert sweep_abandoned(spool, "ct") == []
        assert (spool.incoming_of("ct") / "S_1").exists()
    finally:
        child.kill()
        child.wait()
    assert not is_receiving(spool, "ct")
    assert sweep_abandoned(spool, "ct") == arrivals(spool) != []


HOLDER = textwrap.dedent("""
    import subprocess, sys, time
    from pathlib import Path
    from pipeline.receiving.lock import held
    from pipeline.config.receiver_tables import ReceiverTable
    from pipeline.spool.spool import Spool
    spool = Spool(Path(sys.argv[1]))
    with held(spool, ReceiverTable(name="ct", ae_title="A", port=11112)) as lock:
        words = ["/bin/sh", "-c", sys.argv[2], "-od", str(spool.incoming_of("ct") / "A_1")]
        child = subprocess.Popen(words, pass_fds=(lock,))
        print(child.pid, flush=True)
        time.sleep(60)
""")


@pytest.fixture
def holder(spool):
    """Start another `receive` with a child that says where it writes; returns both."""
    started = []

    def start(script: str = "while :; do sleep 0.1; done") -> tuple[subprocess.Popen[bytes], psutil.Process]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(spool.root), script], stdout=subprocess.PIPE)
        started.append(process)
        child = psutil.Process(int(process.stdout.readline()))
        started.append(child)
        return process, child

    yield start
    for process in started:
        try:
            process.kill()
            process.wait(10)
        except psutil.NoSuchProcess:
            pass
        if isinstance(process, subprocess.Popen):
            process.stdout.close()


def test_a_second_receive_is_refused_while_the_first_lives(spool, holder):
    process, child = holder()
    with (
        pytest.raises(Configuration, match=rf"receiver ct is already running \(process {process.pid}\)"),
        held(spool, CT),
    ):
        pass
    assert child.is_running()


def test_an_orphan_is_ended_when_its_receive_is_dead(spool, holder):
    process, child = holder()
    process.kill()
    process.wait()
    assert is_receiving(spool, "ct")
    with held(spool, CT):
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_an_orphan_that_ignores_sigterm_is_killed(spool, holder, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.3)
    process, child = holder("trap '' TERM; while :; do sleep 0.1; done")
    process.kill()
    process.wait()
    with held(spool, CT):
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_holds_the_lock_and_is_no_orphan_of_ours_is_left_alone(spool, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    with held(spool, CT) as descriptor:
        other = subprocess.Popen(["/bin/sleep", "60"], pass_fds=(descriptor,))
    about = {"pid": other.pid + 1_000_000}
    lock_file(spool, "ct").write_text(json.dumps(about))
    try:
        with pytest.raises(Configuration, match="stays locked; see who holds it: lsof"), held(spool, CT):
            pass
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": null}', b"null"])
def test_a_lock_file_that_says_nothing_useful_does_not_keep_a_receiver_down(spool, content, monkeypatch):
    lock_file(spool, "ct").write_bytes(content)
    with held(spool, CT):
        assert is_receiving(spool, "ct")


def test_a_receiver_that_is_down_has_its_folders_swept(spool):
    put(spool, "S_1.2", "CT.1")
    put(spool, "A_1_1", "CT.1", ".envelope.json")
    names = sweep_abandoned(spool, "ct")
    assert sorted(names) == arrivals(spool)
    assert len(names) == 2
    assert not list(spool.incoming_of("ct").iterdir())


def test_sweeping_again_finds_nothing(spool):
    put(spool, "S_1", "CT.1")
    assert len(sweep_abandoned(spool, "ct")) == 1
    assert sweep_abandoned(spool, "ct") == []
    assert sweep_abandoned(spool, "never-configured") == []


def test_a_folder_nothing_was_received_into_is_removed(spool):
    put(spool, "S_1")
    put(spool, "A_1_1", ".envelope.json")
    assert take_all(spool, "ct", "test") == []
    assert not list(spool.incoming_of("ct").iterdir())
    assert not arrivals(spool)


def test_hidden_files_of_others_are_neither_admitted_nor_deleted(spool):
    folder = put(spool, "S_1", ".nfs0001")
    assert take_all(spool, "ct", "test") == []
    assert (folder / ".nfs0001").exists()


def test_an_empty_file_was_received_and_is_admitted(spool):
    (put(spool, "S_1") / "CT.1").write_bytes(b"")
    assert len(take_all(spool, "ct", "test")) == 1


def test_what_is_no_folder_of_storescp_is_left_where_it_is(spool, tmp_path):
    put(spool, ".hidden", "x")
    (spool.incoming_of("ct") / "S_file").write_bytes(b"")
    (tmp_path / "S_away").mkdir()
    (spool.incoming_of("ct") / "S_link").symlink_to(tmp_path / "S_away")
    assert take_all(spool, "ct", "test") == []
    assert len(list(spool.incoming_of("ct").iterdir())) == 3


def test_a_folder_that_cannot_be_admitted_now_does_not_keep_the_others_back(spool, monkeypatch, caplog):
    from pipeline.errors import Transient
    from pipeline.spool import spool as rooms

    put(spool, "S_1", "CT.1")
    put(spool, "S_2", "CT.1")
    admit = rooms.admit

    def refuse_the_first(incoming, folder):
        if folder.name == "S_1":
            raise Transient("disk trouble")
        return admit(incoming, folder)

    monkeypatch.setattr(rooms, "admit", refuse_the_first)
    assert len(take_all(spool, "ct", "test")) == 1
    assert 'deferred receiver=ct folder=S_1 reason="disk trouble"' in caplog.messages
    monkeypatch.setattr(rooms, "admit", admit)
    assert len(sweep_abandoned(spool, "ct")) == 1


def test_a_signature_changes_with_every_file_and_every_byte(spool):
    folder = put(spool, "S_1")
    seen = {signature_of(folder)}
    (folder / "a").write_bytes(b"1")
    seen.add(signature_of(folder))
    (folder / "a").write_bytes(b"12")
    seen.add(signature_of(folder))
    (folder / "b").write_bytes(b"")
    seen.add(signature_of(folder))
    assert len(seen) == 4
    assert signature_of(folder / "gone").files == 0
