"""Downloads: parts of the one file, and never of two; names that cannot break a header."""

import asyncio
import dataclasses
import os
import time

import pytest
import requests
from support.sites.shim_site import BROWSER, KEY, NEW

from pipeline.model import OrderState
from pipeline.orders import MadeFile
from pipeline.web import transfer
from pipeline.web.http_errors import HttpError
from pipeline.web.transfer import OpenResult, Transfer, disposition, name_of, part_of

LINK = "/mkiso.php?accession_number=A1"
CONTENT = bytes(range(256)) * 40  # 10240 bytes


@pytest.fixture
def shim(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(CONTENT)}
    return shim


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=-", None),
        ("bytes=5-3", None),
        ("bytes=0-1,5-6", None),
        ("bytes = 0-1", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 400 + "-", None),
    ],
)
def test_one_range_is_a_part_and_what_is_none_is_the_whole(header, part):
    assert part_of(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(header):
    with pytest.raises(HttpError) as refused:
        part_of(header, 100)
    assert refused.value.kind.status == 416


def test_a_download_that_broke_is_resumed_where_it_broke(shim):
    answer = shim.get(LINK, headers={"Range": "bytes=4000-"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[4000:]
    assert answer.headers["Content-Range"] == "bytes 4000-10239/10240"
    assert answer.headers["Content-Length"] == "6240"


def test_a_range_behind_the_end_tells_the_size(shim):
    answer = shim.get(LINK, headers={"Range": "bytes=99999-"})
    assert (answer.status_code, answer.json()["error"]) == (416, "range not satisfiable")
    assert answer.headers["Content-Range"] == "bytes */10240"


def test_a_part_of_an_earlier_image_is_never_completed_from_another(shim):
    shim.orders.files_made = 2
    answer = shim.get(LINK, headers={"Range": "bytes=4000-"})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_client_that_names_the_file_it_has_gets_the_rest_of_that_file_alone(shim):
    shim.orders.files_made = 2
    tag = shim.get(LINK).headers["ETag"]
    assert shim.get(LINK, headers={"Range": "bytes=4000-", "If-Range": tag}).status_code == 206
    other = shim.get(LINK, headers={"Range": "bytes=4000-", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, CONTENT)


def test_the_rest_of_a_file_is_served_as_long_as_the_file_is_kept(shim):
    shim.get(LINK)
    shim.get(LINK, headers={"Range": "bytes=4000-"})
    fresh, rest = (asked["same_link"] for asked in shim.orders.asked)
    assert fresh.total_seconds() == 600
    assert rest.total_seconds() == 24 * 3600
    shim.get(LINK, headers={"Range": "bytes=0-"})  # from the first byte on: this asker has nothing yet
    assert shim.orders.asked[-1]["same_link"] == fresh


def test_the_address_of_an_orders_own_file_always_resumes(shim):
    shim.orders.files_made = 2
    page = shim.page_of(LINK)
    answer = shim.get(f"{page}&file=1", headers={"Range": "bytes=-5"})
    assert (answer.status_code, answer.content) == (206, CONTENT[-5:])


def test_the_head_of_an_orders_own_file_tells_its_length(shim):
    page = shim.page_of(LINK)
    answer = shim.request("HEAD", f"{page}&file=1")
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "10240", b"")


@pytest.mark.parametrize("range_header", [None, "bytes=4000-", "bytes=0-"])
@pytest.mark.parametrize("condition", ['"another"', "W/{tag}", '"a", "b"', "nonsense", ""])
def test_who_has_a_part_of_another_image_gets_no_byte_of_this_one_and_orders_nothing(
    shim, condition, range_header
):
    page = shim.page_of(LINK).removesuffix("&before=1")
    tag = shim.get(LINK).headers["ETag"]
    before = len(shim.orders.asked)
    for address in (LINK, f"{page}&file=1"):
        headers = {"If-Match": condition.format(tag=tag), "Range": range_header}
        answer = shim.get(address, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (412, "changed meanwhile")
    assert len(shim.orders.asked) == before


@pytest.mark.parametrize("condition", ["{tag}", '"another", {tag}'])
def test_who_has_a_part_of_this_image_gets_the_rest_of_it(shim, condition):
    shim.orders.files_made = 2
    tag = shim.get(LINK).headers["ETag"]
    headers = {"If-Match": condition.format(tag=tag), "Range": "bytes=4000-"}
    answer = shim.get(LINK, headers=headers)
    assert (answer.status_code, answer.content) == (206, CONTENT[4000:])
    assert shim.get(LINK, headers={**headers, "If-Match": "*"}).status_code == 200  # names none


def test_who_wants_the_rest_of_an_image_that_is_there_no_more_orders_nothing(shim):
    for headers in ({"If-Match": '"1-2-3"'}, {"If-Match": "*"}):
        assert shim.get(LINK, headers=headers).status_code == 412
    assert not shim.orders.asked
    shim.get(LINK, headers=BROWSER)
    shim.orders.change(1, result=None)
    assert shim.get(LINK, headers={"If-Match": "*"}).status_code == 412


def test_a_condition_on_a_file_does_not_hold_up_what_makes_none(shim):
    assert shim.get("/mkiso2.php?accession_number=A1", headers={"If-Match": '"1"'}).status_code == 200


@pytest.mark.parametrize("had", ["{tag}", "W/{tag}", '"another", {tag}', "*"])
def test_who_has_the_image_already_does_not_get_it_again(shim, had):
    tag = shim.get(LINK).headers["ETag"]
    answer = shim.get(LINK, headers={"If-None-Match": had.format(tag=tag), "Range": "bytes=4000-"})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert shim.get(LINK, headers={"If-None-Match": '"another"'}).content == CONTENT


def test_a_look_at_a_link_tells_the_length_of_what_is_there_and_none_of_what_is_not(shim):
    nothing_yet = shim.request("HEAD", LINK)
    assert nothing_yet.status_code == 200
    assert "Content-Length" not in nothing_yet.headers
    assert not shim.orders.asked
    full = shim.get(LINK)
    for headers in ({}, {"Range": "bytes=4000-"}):
        look = shim.request("HEAD", LINK, headers=headers)
        assert (look.status_code, look.content) == (200, b"")
        for name in ("Content-Length", "ETag", "Content-Disposition", "Content-Type", "Accept-Ranges"):
            assert look.headers[name] == full.headers[name]
        assert "Content-Range" not in look.headers
    assert len(shim.orders.asked) == 1


def test_a_look_at_a_page_tells_its_length(shim):
    page = shim.page_of(LINK)
    answer = shim.request("HEAD", page, headers=BROWSER)
    length = len(shim.get(page, headers=BROWSER).content)
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(length))


def test_a_file_that_is_let_go_while_it_is_sent_is_sent_to_its_end(shim):
    big = bytes(8 << 20)
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(big, "big.iso")}
    with requests.get(shim.url + LINK, headers={"X-API-Key": KEY}, stream=True, timeout=20) as answer:
        pieces = answer.iter_content(1 << 16)
        first = next(pieces)
        (shim.folder / "big.iso").unlink()
        assert len(first) + sum(map(len, pieces)) == len(big)


def test_a_file_cut_short_while_it_is_sent_breaks_the_connection_rather_than_the_image(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(bytes(64 << 20), "cut.iso")}
    with requests.get(shim.url + LINK, headers={"X-API-Key": KEY}, stream=True, timeout=20) as answer:
        pieces = answer.iter_content(1 << 16)
        next(pieces)
        with (shim.folder / "cut.iso").open("r+b") as file:
            file.truncate(1 << 20)
        began = time.monotonic()
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            list(pieces)
        assert time.monotonic() - began < 10  # broken by us, not given up by the client


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("A1.iso", 'attachment; filename="A1.iso"'),
        ('a"; filename="b.exe', 'attachment; filename="a___filename__b.exe"'),
        ("a\r\nSet-Cookie: x.iso", 'attachment; filename="a__Set-Cookie__x.iso"'),
        ("../../etc/passwd", 'attachment; filename="_.._etc_passwd"'),
        ("Núñez.iso", 'attachment; filename="N__ez.iso"'),
        ("...", 'attachment; filename="download"'),
        ("", 'attachment; filename="download"'),
    ],
)
def test_no_name_breaks_a_header(name, header):
    assert disposition(name) == header


@pytest.mark.parametrize(
    ("verb", "accessions", "patient", "name"),
    [
        ("download", ("A/1 2",), "", "A_1_2.iso"),
        ("download", ("..",), "", "download.iso"),
        ("download-multiple", ("A1",), "NÚÑEZ^JOSÉ", "NUNEZJOSE-A1.iso"),
        ("download-multiple", ("A1", "B2"), "", "PATIENT-A1-B2.iso"),
        ("download", ("A1", "B2"), "", "PATIENT-A1-B2.iso"),
    ],
)
def test_a_disc_is_named_after_what_is_on_it(verb, accessions, patient, name):
    view = dataclasses.replace(NEW, verb=verb, accessions=accessions)
    assert name_of(view, MadeFile("/x/whatever.iso", "whatever.iso", 1), patient) == name


@pytest.mark.parametrize(("made", "suffix"), [("x.zip", "zip"), ("x.ISO", "iso"), ("x", "iso"), ("x.a b", "iso")])
def test_the_suffix_is_that_of_the_file_that_was_made(made, suffix):
    view = dataclasses.replace(NEW, accessions=("A1",))
    assert name_of(view, MadeFile(f"/x/{made}", made, 1), "") == f"A1.{suffix}"


async def _receive():
    await asyncio.Event().wait()


def _sent(path, content, others=lambda: None):
    """Return the bodies of a transfer to a client that takes every piece at once; `others` runs in between."""
    path.write_bytes(content)
    bodies: list[bytes] = []

    async def send(message):
        bodies.append(bytes(message.get("body", b"")))

    async def whole():
        beside = asyncio.ensure_future(_again_and_again(others))
        result = OpenResult.of(MadeFile(str(path), path.name, len(content)))
        await Transfer(result, "x.iso", None)({"method": "GET"}, _receive, send)
        beside.cancel()

    asyncio.run(whole())
    return bodies[1:]


async def _again_and_again(others):
    while True:
        others()
        await asyncio.sleep(0)


def test_a_file_that_is_in_memory_is_sent_without_a_thread_and_one_that_is_not_by_one(tmp_path, monkeypatch):
    threads: list[int] = []

    async def in_a_thread(function, *arguments):
        threads.append(1)
        return function(*arguments)

    def from_the_disk(*_):
        raise BlockingIOError

    monkeypatch.setattr(transfer, "run_in_threadpool", in_a_thread)
    content = os.urandom(3 << 18)
    monkeypatch.setattr(os, "preadv", lambda fd, into, at, _flags: _read_into(fd, into[0], at))
    assert b"".join(_sent(tmp_path / "disc", content)) == content
    assert not threads
    monkeypatch.setattr(os, "preadv", from_the_disk)
    assert b"".join(_sent(tmp_path / "other", content)) == content
    assert threads


def _read_into(descriptor, piece, at):
    """Read what is in memory, as the system may: a part of what was asked for."""
    some = os.pread(descriptor, max(1, len(piece) // 3), at)
    piece[: len(some)] = some
    return len(some)


def test_a_client_that_takes_all_at_once_leaves_the_loop_to_others_after_every_piece(tmp_path):
    turns: list[int] = []
    pieces = _sent(tmp_path / "disc", bytes(8 << 18), lambda: turns.append(1))
    assert len(turns) >= len(pieces) > 2
