"""Orders by C-GET, for a disc and for a publisher, and what they leave behind, killed in the middle."""

import io
import os
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from support.crash.crash_stage import Stage, crash_stage
from support.machine.dicom_programs import program
from support.peers.archives import study
from support.peers.storage_peer import TABLE, StoragePeer, storage_peer

from pipeline.disc.formats.contents import IsoContents, read_all
from pipeline.model import OrderState

pytestmark = pytest.mark.programs


def uids(files: list[Path]) -> set[str]:
    return {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}


def deadly(folder: Path, name: str) -> Path:
    """The real program; where there is a file `deadly`, whoever had it do its work dies when it is done, once."""
    file, real = folder / name, program(name)
    file.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*|*-print-size*) exec {real} "$@";; esac\n'
        f'{real} "$@" || exit\nmv {folder}/deadly {folder}/was-deadly 2>/dev/null && kill -9 $PPID\nexit 0\n'
    )
    file.chmod(0o755)
    return file


# --- C-GET ---------------------------------------------------------------------------------------------

GET = {"retrieve": "get"}
BROUGHT = "all has been brought, and nobody knows it yet"
WHILE_GETTING = [
    BROUGHT,
    "sweep-admitting",
    "sweep-admitted",
    "retrieval-sent",
    "retrieval-finished",
    "admit-synced",
    "admitted",
    "intake-entering",
    "taken-in",
]


@pytest.fixture(scope="module", params=[True, False], ids=["beside a receiver", "without a receiver"])
def getting(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("get")
    programs = {"getscu": deadly(folder, "getscu")}
    with crash_stage(folder, pacs=GET, programs=programs, with_receiver=request.param) as one:
        yield one


@pytest.mark.parametrize("point", WHILE_GETTING)
def test_what_getscu_brought_a_worker_that_died_is_taken_in_by_the_next(point, getting, tmp_path):
    accession = f"G{WHILE_GETTING.index(point)}"
    files = study(tmp_path, accession, series=2, instances=2)
    getting.archive.store(*files)
    number = getting.place(accession)
    if point == BROUGHT:
        (getting.folder / "deadly").touch()
    getting.killed("work", point=point)
    ended = getting.work_until_ended(number)
    assert (ended.state, ended.expected, ended.received, ended.sent) == (OrderState.DONE, 4, 4, 4), getting.text()
    assert getting.sent(number) == [("stored", True)] * 4
    assert uids(files) <= getting.on_the_shelf()
    assert not [left.name for left in (getting.folder / "spool/incoming/cdrecord").iterdir()]
    assert not [left for left in (getting.folder / "spool/run").iterdir() if left.name.startswith("query-")]


# --- a disc --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def making(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disc")
    (folder / "discs").mkdir()
    table = {"name": "disc", "kind": "iso", "folder": str(folder / "discs")}
    with crash_stage(folder, destinations=[table], programs={"xorriso": deadly(folder, "xorriso")}) as one:
        yield one


def offered(stage: Stage, number: int) -> Path | None:
    result = stage.view(number).result
    return Path(result.path) if result else None


def on_disc(image: Path) -> set[str]:
    contents = IsoContents(image)
    try:
        files = [read_all(contents, name) for name in contents.files if name.startswith("DICOM/")]
    finally:
        contents.close()
    return {str(pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID) for file in files}


def order_a_disc(stage: Stage, accession: str, folder: Path) -> tuple[int, set[str]]:
    files = study(folder, accession, patient=accession)
    stage.archive.store(*files)
    return stage.place(accession, "disc"), uids(files)


def assert_it_is_made_once(stage: Stage, number: int, wanted: set[str]) -> None:
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.sent) == (OrderState.DONE, 3), stage.text()
    image = offered(stage, number)
    assert image is not None
    assert on_disc(image) == wanted
    images = [file.name for file in (stage.folder / "discs").rglob("*.iso")]
    assert images.count(image.name) == 1


def test_an_image_that_was_written_and_not_read_back_is_never_offered(making, tmp_path):
    number, wanted = order_a_disc(making, "UNREAD", tmp_path)
    (making.folder / "deadly").touch()
    making.killed("work")
    assert making.view(number).state == OrderState.OPEN
    assert offered(making, number) is None
    assert not list((making.folder / "discs").rglob("*.iso")), "an image nobody has read back"
    (left,) = (making.folder / "discs/.orders").iterdir()
    os.utime(left, (0, 0))  # a young one may have no lock yet
    making.work_until(lambda: not left.exists())
    assert_it_is_made_once(making, number, wanted)


@pytest.mark.parametrize("point", ["deliver-made", "deliver-receipt", "attempted", "concluded"])
def test_a_worker_killed_after_it_made_an_orders_disc_offers_one_of_everything(point, making, tmp_path):
    number, wanted = order_a_disc(making, f"D{point}"[:16].upper(), tmp_path)
    making.killed("work", point=point)
    assert making.view(number).state == OrderState.OPEN, "told before its delivery has ended"
    assert_it_is_made_once(making, number, wanted)


@pytest.mark.parametrize("point", ["result-cleared", "aged-out", "let-go"])
def test_results_half_let_go_are_gone_after_the_next_start(point, making, tmp_path):
    number, wanted = order_a_disc(making, f"R{point}".upper(), tmp_path)
    assert_it_is_made_once(making, number, wanted)
    making.configure(keep_results="1ms")
    making.killed("work", point=point)
    making.work_until(lambda: not left_behind(making))
    assert offered(making, number) is None
    making.configure()


def left_behind(stage: Stage) -> list[Path]:
    rooms = ("spool/settled", "spool/arrivals", "spool/outputs", "discs/.orders")
    return [left for room in rooms for left in (stage.folder / room).iterdir()]


# --- a publisher ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printing(tmp_path_factory):
    with storage_peer() as peer:
        table = {**TABLE, "port": peer.port, "response_timeout": "20s", "associate_timeout": "20s"}
        with crash_stage(tmp_path_factory.mktemp("print"), destinations=[table]) as one:
            yield one, peer


@pytest.mark.parametrize(
    ("point", "count", "twice"),
    [
        ("order-consigned", 1, 0),
        ("claimed", 1, 0),
        ("deliver-attempt", 1, 0),
        ("deliver-receipt", 1, 1),  # the first was answered, which nobody wrote down
        ("deliver-receipt", 3, 1),
        ("attempted", 1, 0),  # all is answered and written down, and the order not yet ended
        ("concluded", 1, 0),
        ("order-ended", 1, 0),
    ],
)
def test_a_relay_killed_after_its_nth_instance_sends_the_rest_and_prints_once(
    point: str, count: int, twice: int, printing: tuple[Stage, StoragePeer], tmp_path: Path
):
    stage, peer = printing
    accession = f"P{count}{point}"[:16].upper()
    files = study(tmp_path, accession, instances=5, patient=accession)
    stage.archive.store(*files)
    number = stage.place(accession, "publisher")
    stage.killed("work", point=point, count=count)
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.sent) == (OrderState.DONE, 5), stage.text()
    assert stage.sent(number) == [("stored", True)] * 5
    stage.work_until(lambda: stage.text().count("worker-started") >= 2)
    times = Counter(one.uid for one in peer.received if one.uid in uids(files))
    assert times.keys() == uids(files)
    assert sorted(times.values()) == [1] * (5 - twice) + [2] * twice
    last = max(one.association for one in peer.received)
    complete = ("attempted", "concluded", "order-ended")
    if point in complete:
        assert len({one.association for one in peer.received if one.uid in times}) == 1, "printed twice"
    assert peer.received[-1].association == last
