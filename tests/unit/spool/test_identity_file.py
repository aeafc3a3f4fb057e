"""The file with the identity of a folder."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from pipeline.spool import identity_file
from pipeline.spool.identity_file import identity_of


def test_who_asks_at_once_gets_the_same_identity(tmp_path, monkeypatch):
    written, both = identity_file.write_durably, Barrier(2)

    def write_together(path, data):
        written(path, data)
        both.wait(20)

    monkeypatch.setattr(identity_file, "write_durably", write_together)
    file = tmp_path / "ledger.spool"
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(identity_of, [file, file])
    assert first == second == identity_of(file)
    assert len(first) == 32
    assert list(tmp_path.iterdir()) == [file]
