"""The file with the identity of a folder."""

from pipeline.spool import identity_file
from pipeline.spool.identity_file import identity_of


def test_who_is_a_moment_late_gets_the_identity_that_another_has_made(tmp_path, monkeypatch):
    written, others = identity_file.write_durably, []
    file = tmp_path / "ledger.spool"

    def written_while_another_makes_one(path, data):
        written(path, data)
        if not others:
            others.append("")
            others[0] = identity_of(file)

    monkeypatch.setattr(identity_file, "write_durably", written_while_another_makes_one)
    assert identity_of(file) == others[0] == file.read_text()
    assert len(others[0]) == 32
    assert list(tmp_path.iterdir()) == [file]
