"""The hidden folder beside a disc: room for the disc is asked for before it is made."""

from types import SimpleNamespace

import pytest

from pipeline.disc.errors import NoSpace
from pipeline.disc.formats.scratch import check_space


def test_too_little_room_is_said_with_all_that_is_needed_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_242_880))
    with pytest.raises(NoSpace) as why:
        check_space(tmp_path, 1_467_664)
    assert "5,242,880 bytes free, the disc takes 1,467,664 and 16,777,216 must stay free" in str(why.value)
    assert "make room for 13,002,000 more" in str(why.value)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_242_880 + 13_002_000))
    check_space(tmp_path, 1_467_664)
