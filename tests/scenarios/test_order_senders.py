"""Whoever reaches the receiver of orders sends what he likes there; only what the PACS sends is on a disc."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import dcmsend, free_port, storescu, wait_until
from support.peers.archives import OUR_AE_TITLE, study
from support.peers.flaky_proxy import flaky_proxy
from support.peers.odd_pacs import SUCCESS, Move, OddPacs, odd_pacs
from support.sites.orders_site import OrdersSite, orders_site

from pipeline.model import OrderError, OrderState
from pipeline.orders import Unclaimed

pytestmark = pytest.mark.programs

ELSEWHERE = "127.0.0.2"  # an address of another computer, as far as a receiver can tell
SHIM = {"move_timeout": "4s", "order_timeout": "60s"}


@pytest.fixture(scope="module", params=["association", "study"])
def stage(tmp_path_factory, request) -> Iterator[tuple[OddPacs, OrdersSite, int]]:
    """A PACS, a site, and a port by which a stranger reaches the receiver of orders from another address."""
    port = free_port()
    folder = tmp_path_factory.mktemp(request.param)
    with (
        odd_pacs(port) as pacs,
        flaky_proxy(port, source=ELSEWHERE) as way_in,
        orders_site(folder, pacs.archive(), port, shim=SHIM, receiver={"mode": request.param}) as site,
    ):
        yield pacs, site, way_in.port


@pytest.fixture
def pacs(stage) -> OddPacs:
    stage[0].reset()
    return stage[0]


@pytest.fixture
def site(stage) -> OrdersSite:
    return stage[1]


@pytest.fixture
def way_in(stage) -> int:
    return stage[2]


def address_seen(site: OrdersSite) -> str | None:
    """Return the address a stranger is known by: in study mode there is none."""
    return ELSEWHERE if site.settings.receiver_named("cdrecord").mode == "association" else None


@pytest.fixture
def accession(pacs, tmp_path, request) -> str:
    name = f"S{abs(hash(request.node.name)) % 10**9}"
    pacs.hold(*study(tmp_path / "true", name))
    return name


def holdings(pacs: OddPacs, accession: str) -> list[pydicom.Dataset]:
    return next(some for some in pacs.holdings.values() if some[0].AccessionNumber == accession)


def forged(folder: Path, genuine: list[pydicom.Dataset], *, more: int = 2) -> list[Path]:
    """Write instances under the UIDs of the PACS's with something else in them, and more of the same study."""
    folder.mkdir(parents=True)
    made = []
    for number in range(len(genuine) + more):
        dataset = copy.deepcopy(genuine[number % len(genuine)])
        if number >= len(genuine):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.ImageComments = "forged"
        made.append(folder / f"{number}.dcm")
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


def is_forged(dataset: pydicom.Dataset) -> bool:
    return bool(dataset.get("ImageComments", "") == "forged")


def delivered(site: OrdersSite, uid: str) -> list[pydicom.Dataset]:
    read = [pydicom.dcmread(file) for file in site.delivered()]
    return [one for one in read if one.StudyInstanceUID == uid]


def forge(program, port: int, files: list[Path], **keys: object) -> None:
    sent = program(port, *files, called=OUR_AE_TITLE, **keys)
    assert sent.acknowledged == len(files), sent.output


@pytest.mark.parametrize("program", [storescu, dcmsend])
@pytest.mark.parametrize("lists", [True, False])
def test_what_a_stranger_sends_beside_the_pacs_is_on_no_disc(stage, accession, tmp_path, program, lists):
    pacs, site, way_in = stage
    genuine = holdings(pacs, accession)
    files = forged(tmp_path / "forged", genuine)
    pacs.lists_instances = lists

    def move(move: Move) -> None:
        forge(program, way_in, files[:3], calling="FORGER")
        taken = move.send(move.wanted)
        forge(program, way_in, files, calling="FORGER")
        move.respond(SUCCESS, completed=taken)

    pacs.move = move
    view = site.order(accession)
    assert (view.state, view.error_kind, view.received, view.sent) == (OrderState.DONE, None, 3, 3)
    left = delivered(site, genuine[0].StudyInstanceUID)
    assert {one.SOPInstanceUID for one in left} == {one.SOPInstanceUID for one in genuine}
    assert not any(is_forged(one) for one in left)
    seen = site.wait_for(view.id, lambda view: view.unclaimed_from and view.unclaimed_from[0].instances == 5)
    assert seen.unclaimed_from == (Unclaimed("FORGER", address_seen(site), 5),)
    assert seen.late == 0
    assert "calling_ae_title=FORGER" in site.up.text()


def test_what_a_stranger_has_sent_before_serves_no_order(site, pacs, accession, way_in, tmp_path):
    genuine = holdings(pacs, accession)
    forge(storescu, way_in, forged(tmp_path / "forged", genuine), calling="FORGER")
    uid = genuine[0].StudyInstanceUID
    wait_until(
        lambda: any(f" unclaimed study={uid} " in line for line in site.up.text().splitlines()),
        what="the stranger's study to be taken in",
    )
    view = site.order(accession)
    assert (view.state, view.received) == (OrderState.DONE, 3)
    assert len(pacs.moves) == 1
    assert not any(is_forged(one) for one in delivered(site, genuine[0].StudyInstanceUID))


def test_a_pacs_that_sends_by_another_way_is_told_with_the_line_to_paste(stage, pacs, accession, tmp_path):
    _, site, way_in = stage
    address = address_seen(site)
    genuine = holdings(pacs, accession)
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for one, file in zip(genuine, files, strict=True):
        one.save_as(file, enforce_file_format=True)

    def move(move: Move) -> None:
        forge(storescu, way_in, files, calling="STORE_NODE")
        move.respond(SUCCESS, completed=3)

    pacs.move = move
    view = site.order(accession)
    assert (view.error_kind, view.received, view.expected, view.sent) == (OrderError.MOVE_INCOMPLETE, 0, 3, 0)
    assert view.unclaimed_from == (Unclaimed("STORE_NODE", address, 3),)
    where = f'address = "{ELSEWHERE}", ' if address else ""
    line = f'senders = [{{ {where}ae_title = "STORE_NODE" }}]'
    assert line in (view.detail or "")
    checked = site.up.run("check").stdout
    assert line in " ".join(checked.split()), checked


@pytest.mark.parametrize(
    ("mode", "entry"),
    [
        ("association", {"address": ELSEWHERE}),
        ("association", {"address": ELSEWHERE, "ae_title": "STORE_NODE"}),
        ("association", {"address": ELSEWHERE, "ae_title": "ANOTHER"}),
        ("study", {"ae_title": "STORE_NODE"}),
        ("study", {"address": ELSEWHERE, "ae_title": "STORE_NODE"}),
    ],
)
def test_a_sender_that_is_named_counts_as_the_pacs(tmp_path, mode, entry):
    port = free_port()
    files = study(tmp_path / "true", "NAMED")
    named = entry.get("ae_title") in {None, "STORE_NODE"}
    with (
        odd_pacs(port) as pacs,
        flaky_proxy(port, source=ELSEWHERE) as way_in,
        orders_site(
            *(tmp_path / "site", pacs.archive(), port),
            shim=SHIM,
            receiver={"mode": mode},
            pacs={"senders": [entry]},
        ) as site,
    ):
        pacs.hold(*files)

        def move(move: Move) -> None:
            forge(storescu, way_in.port, files, calling="STORE_NODE")
            move.respond(SUCCESS, completed=3)

        pacs.move = move
        view = site.order("NAMED")
        assert (view.state == OrderState.DONE, bool(view.unclaimed_from)) == (named, not named)


def test_more_than_the_pacs_says_it_sent_is_on_no_disc_even_from_its_own_address(tmp_path):
    port = free_port()
    with odd_pacs(port) as pacs, orders_site(tmp_path / "site", pacs.archive(), port, shim=SHIM) as site:
        pacs.hold(*study(tmp_path / "true", "EXTRA"))
        (genuine,) = pacs.holdings.values()
        extra = forged(tmp_path / "forged", genuine)[-2:]

        def move(move: Move) -> None:
            forge(dcmsend, port, extra, calling="FORGER")
            move.respond(SUCCESS, completed=move.send(move.wanted))

        pacs.move = move
        view = site.order("EXTRA")
        assert (view.state, view.received, view.sent) == (OrderState.DONE, 3, 3)
        assert not any(is_forged(pydicom.dcmread(one)) for one in site.delivered())


def test_two_contents_of_one_instance_from_the_address_of_the_pacs_leave_neither(tmp_path):
    """Nobody can tell them apart, and it is not for whoever was first to decide."""
    port = free_port()
    with odd_pacs(port) as pacs, orders_site(tmp_path / "site", pacs.archive(), port, shim=SHIM) as site:
        pacs.hold(*study(tmp_path / "true", "DOUBTFUL"))
        (genuine,) = pacs.holdings.values()
        files = forged(tmp_path / "forged", genuine, more=1)

        def move(move: Move) -> None:
            forge(storescu, port, [files[0], files[-1]], calling="FORGER")
            move.respond(SUCCESS, completed=move.send(move.wanted))

        pacs.move = move
        view = site.order("DOUBTFUL")
        assert (view.state, view.error_kind, view.received) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2)
        assert "1 came twice, with another content each time" in (view.detail or "")
        assert not site.delivered()


def test_what_came_and_was_set_aside_is_told_with_its_reason(site, pacs, accession):
    first, *others = holdings(pacs, accession)
    del first.PatientID
    view = site.order(accession)
    assert (view.state, view.error_kind) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE)
    assert "1 came and is quarantined: it has no Patient ID (0010,0020)" in (view.detail or "")
    for one in others:
        del one.PatientID
    view = site.order(accession, again=True)
    assert view.error_kind == OrderError.MOVE_INCOMPLETE
    assert "3 came and are quarantined" in (view.detail or "")
