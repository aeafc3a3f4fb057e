"""What is said of a store: it can be used, it cannot, or it does not answer."""

import threading

from pipeline.spool import store_probe
from pipeline.spool.spool import MARK, Spool
from pipeline.spool.store_probe import probe


def spool_with_store(tmp_path) -> Spool:
    (tmp_path / "store").mkdir()
    spool = Spool(tmp_path / "spool", tmp_path / "store")
    spool.prepare()
    spool.prepare_store()
    return spool


def test_a_store_that_can_be_used_says_which_it_is_and_how_much_is_free(tmp_path):
    spool = spool_with_store(tmp_path)
    (spool.store / MARK).write_text("abc")
    state = probe(spool)
    assert (state.mark, state.problem) == ("abc", None)
    assert state.free


def test_a_store_that_cannot_be_written_to_is_a_problem_with_its_reason(tmp_path, monkeypatch):
    spool = spool_with_store(tmp_path)

    def stale(_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(store_probe, "flush", stale)
    assert probe(spool).problem == f"{spool.store} cannot be used now: Stale file handle"


def test_a_store_that_hangs_is_a_problem_after_the_deadline(tmp_path, monkeypatch):
    spool, over = spool_with_store(tmp_path), threading.Event()
    monkeypatch.setattr(store_probe, "flush", lambda _: over.wait(60))
    assert probe(spool, 0.1).problem == f"{spool.store} does not answer for 0 s"
    over.set()
