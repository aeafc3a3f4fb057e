"""The token of an order's forms, and the key behind it."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import Configuration, Transient
from pipeline.spool.key_file import key_in
from pipeline.web.page_forms import KEY_FILE, is_token_of, token_of


def test_a_token_is_of_one_order_of_one_spool(tmp_path):
    (tmp_path / "other").mkdir()
    token = token_of(tmp_path, 1)
    assert is_token_of(tmp_path, 1, token)
    assert not is_token_of(tmp_path, 2, token)
    assert not is_token_of(tmp_path, 11, token)
    assert not is_token_of(tmp_path / "other", 1, token)


@pytest.mark.parametrize("text", ["", "0" * 64, "é", "\ud800", "x" * 10_000])
def test_no_other_text_is_a_token(tmp_path, text):
    assert not is_token_of(tmp_path, 1, text)


def test_the_key_can_be_read_by_its_owner_alone(tmp_path):
    token_of(tmp_path, 1)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]


def test_all_who_make_the_key_at_once_get_the_same_one(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(key_in, [tmp_path / "key"] * 64))) == 1


def test_what_is_no_key_is_not_used_as_one(tmp_path):
    (tmp_path / "key").write_bytes(b"")
    with pytest.raises(Configuration, match="delete it"):
        key_in(tmp_path / "key")


def test_where_there_is_no_spool_yet_there_is_no_key_yet(tmp_path):
    with pytest.raises(Transient):
        token_of(tmp_path / "not there", 1)
