"""The body of a request holds the bytes that were pinned, or breaks off before the last ones of a file."""

from dataclasses import replace

import pytest
from support.studies.small_studies import make_item

from pipeline.dicomweb.multipart import CHANGED, Body, DiffersFromPin, new_boundary

BLOCKS = 600_000  # Bytes; more than two blocks.


def streamed(*items) -> tuple[bytes, DiffersFromPin | None]:
    parts = b""
    try:
        for part in Body(items, new_boundary()):
            parts += bytes(part)
    except DiffersFromPin as error:
        return parts, error
    return parts, None


def flip(path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_is_as_pinned_is_streamed_whole(tmp_path):
    items = [make_item(tmp_path, 1, padding=BLOCKS), make_item(tmp_path, 2)]
    body, error = streamed(*items)
    assert error is None
    assert len(body) == len(Body(items, new_boundary()))
    assert all(item.path.read_bytes() in body for item in items)


@pytest.mark.parametrize(
    "at", [700, BLOCKS // 2, -1], ids=["in the first block", "in the middle", "the last byte"]
)
@pytest.mark.parametrize("padding", [BLOCKS, 0], ids=["of several blocks", "of one block"])
def test_one_flipped_byte_of_the_same_size_ends_it_before_its_last_block(tmp_path, padding, at):
    good, bad = make_item(tmp_path, 1), make_item(tmp_path, 2, padding=padding)
    flip(bad.path, at % bad.size)
    body, error = streamed(good, bad)
    assert error is not None
    assert (error.item, str(error)) == (bad, CHANGED)
    assert good.path.read_bytes() in body
    assert bad.path.read_bytes() not in body
    assert len(body) < len(Body([good, bad], new_boundary())) - bad.size % (1 << 18)


@pytest.mark.parametrize(
    "item_of",
    [lambda item: replace(item, path=item.path.with_name("gone")), lambda item: replace(item, size=item.size + 1)],
    ids=["gone", "shorter"],
)
def test_a_file_that_is_gone_or_shorter_is_named(tmp_path, item_of):
    item = item_of(make_item(tmp_path, 1))
    _, error = streamed(item)
    assert error is not None
    assert error.item == item
