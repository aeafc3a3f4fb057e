"""Whose the images of an order are: the HIS, the PACS and every image agree, or nothing leaves."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import DataElement, Dataset
from support.machine.dicom_programs import free_port
from support.peers.archives import study
from support.peers.fake_his import fake_his
from support.peers.odd_pacs import PENDING, SUCCESS, Move, OddPacs, odd_pacs
from support.sites.orders_site import OrdersSite, orders_site
from support.studies.discs import taken_apart

from pipeline.dicom.same_patient import Attribute
from pipeline.model import OrderError, OrderState
from pipeline.orders import OrderView
from pipeline.orders.compare_sources import IdentitySource, SourceDifference

pytestmark = pytest.mark.programs

ID, _ISSUER, NAME, BIRTH = Attribute
HIS_PACS, PACS_IMAGES = (IdentitySource.HIS, IdentitySource.PACS), (IdentitySource.PACS, IdentitySource.IMAGES)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    port = free_port()
    folder = tmp_path_factory.mktemp("whose")
    discs = folder / "discs"
    discs.mkdir()
    destinations = [{"name": "disc", "kind": "iso", "folder": str(discs)}]
    with (
        fake_his() as his,
        odd_pacs(port) as pacs,
        orders_site(
            folder, pacs.archive(), port, destinations=destinations, shim={}, patients=his.table()
        ) as site,
    ):
        yield pacs, his, site


@pytest.fixture
def pacs(stage) -> OddPacs:
    stage[0].reset()
    stage[0].holdings.clear()
    return stage[0]


@pytest.fixture
def his(stage):
    stage[1].people.clear()
    stage[1].asked.clear()
    stage[1].down = None
    return stage[1]


@pytest.fixture
def site(stage) -> OrdersSite:
    return stage[2]


ANN = {"PatientID": "4711", "PatientName": "ROE^ANN", "PatientBirthDate": "19700101"}
BOB = {"PatientID": "0815", "PatientName": "POE^BOB", "PatientBirthDate": "19551231"}


def hold(pacs: OddPacs, folder: Path, accession: str, **values: str) -> str:
    """Have the PACS hold a study of three instances of this patient; return the Study Instance UID."""
    files = study(folder, accession, **{**ANN, **values})
    pacs.hold(*files)
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


def says(**values: str):
    """Have the PACS answer queries with these values, whatever its images say."""

    def find(pacs: OddPacs, identifier: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        for status, answer in pacs.answers(identifier):
            for keyword, value in values.items():
                if answer is not None and keyword in answer:
                    element = answer[keyword]  # the PACS's own, which must stay as it is
                    answer[keyword] = DataElement(element.tag, element.VR, value)
            yield status, answer

    return find


def refused(view: OrderView, *differing: SourceDifference) -> bool:
    assert (view.state, view.error_kind, view.sent) == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT, 0), (
        view
    )
    assert view.differing == differing
    return True


def known(his, accession: str, medrec_id: str | None = "4711", name: str | None = "ANN ROE") -> str:
    his.people[accession] = (medrec_id, name)
    return accession


# --- the PACS and its images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ({"PatientID": "0815"}, [ID]),
        ({"PatientName": "POE^BOB"}, [NAME]),
        ({"PatientBirthDate": "19700102"}, [BIRTH]),
        (BOB, [ID, NAME, BIRTH]),
    ],
)
def test_images_of_another_patient_than_the_pacs_names_do_not_leave(stage, pacs, tmp_path, values, attributes):
    _, his, site = stage
    accession = known(his, f"P{len(values)}{attributes[0]}"[:16])
    hold(pacs, tmp_path, accession, **values)
    pacs.find = says(**ANN)
    for destination in ("shelf", "disc"):
        view = site.order(accession, destination=destination, again=True)
        assert refused(view, SourceDifference(accession, PACS_IMAGES, tuple(attributes)))
    assert not [one for one in site.delivered() if pydicom.dcmread(one).AccessionNumber == accession]
    lines = [line for line in site.up.text().splitlines() if "identity-differs" in line]
    assert "ERROR" in lines[-1]
    assert f"attributes={','.join(sorted(attributes))}" in lines[-1]
    assert not [word for word in ("ROE", "POE", "0815", "1955") if word in "\n".join(lines)]


def test_one_image_of_many_is_enough_and_what_the_pacs_sends_is_asked_not_what_it_holds(site, pacs, his, tmp_path):
    accession = known(his, "ONE")
    hold(pacs, tmp_path, accession)

    def swaps(move: Move) -> None:
        *some, last = move.wanted
        move.send([*some, another(last)])
        move.respond(SUCCESS, completed=3)

    pacs.move = swaps
    view = site.order(accession)
    assert (view.state, view.error_kind) == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT)
    assert {one.between for one in view.differing} == {(IdentitySource.IMAGES,), PACS_IMAGES}


def test_a_placeholder_in_the_images_is_of_whom_the_pacs_names_unless_the_name_differs(site, pacs, his, tmp_path):
    hold(pacs, tmp_path / "1", known(his, "PH1"), PatientID="W/I", PatientBirthDate="")
    hold(pacs, tmp_path / "2", known(his, "PH2"), PatientID="W/I", PatientBirthDate="", PatientName="POE^BOB")
    pacs.find = says(**ANN)
    view = site.order("PH1", destination="disc")
    assert view.state == OrderState.DONE
    assert view.result is not None
    readme = (taken_apart(Path(view.result.path), tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert "*** WITHOUT A PATIENT ID" in readme
    assert view.noted == (SourceDifference("PH1", (IdentitySource.IMAGES,), (ID,)),)
    assert refused(site.order("PH2"), SourceDifference("PH2", PACS_IMAGES, (NAME,)))


def test_a_new_family_name_is_noted(site, pacs, his, tmp_path):
    hold(pacs, tmp_path, known(his, "WED"), PatientName="SMITH^ANN")
    pacs.find = says(**ANN)
    view = site.order("WED")
    assert view.state == OrderState.DONE
    assert view.noted == (SourceDifference("WED", PACS_IMAGES, (NAME,)),)
    assert "SMITH" not in str(view.as_json())


def test_images_that_bear_another_accession_number_are_counted_and_leave(site, pacs, his, tmp_path):
    hold(pacs, tmp_path, "OLDNUMBER")
    known(his, "NEWNUMBER")

    def find(pacs: OddPacs, identifier: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        if identifier.QueryRetrieveLevel == "STUDY":
            identifier.AccessionNumber = "OLDNUMBER"
        for status, answer in pacs.answers(identifier):
            if answer is not None and "AccessionNumber" in answer:
                answer["AccessionNumber"] = DataElement(0x00080050, "SH", "NEWNUMBER")
            yield status, answer

    pacs.find = find
    view = site.order("NEWNUMBER")
    assert (view.state, view.accession_differs) == (OrderState.DONE, 3)


def test_a_worker_that_was_killed_in_between_asks_the_pacs_once_more(site, pacs, his, tmp_path):
    hold(pacs, tmp_path, known(his, "KILL"), **BOB)
    pacs.find = says(**ANN)
    reached = []

    def waits(move: Move) -> None:
        if not reached:
            reached.append(move)
            return
        move.send(move.wanted)
        move.respond(SUCCESS, completed=3)

    pacs.move = waits
    number = site.place("KILL").order_id
    site.wait_for(number, lambda view: reached)
    site.up.worker().kill()
    assert refused(site.wait(number), SourceDifference("KILL", PACS_IMAGES, (ID, NAME, BIRTH)))


# --- the HIS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["retrieve", "print", "download", "download-multiple", "forward"])
def test_whom_the_his_names_otherwise_is_asked_before_anything_is_retrieved(site, pacs, his, tmp_path, verb):
    accession = known(his, f"H{verb}", "99", "POE BOB")
    hold(pacs, tmp_path, accession)
    assert refused(site.order(accession, verb=verb), SourceDifference(accession, HIS_PACS, (ID, NAME)))
    assert not pacs.moves
    known(his, accession, "99", "ROE ANN")
    view = site.order(accession, verb=verb)
    assert (view.state, view.his) == (OrderState.DONE, "asked")
    assert view.noted == (SourceDifference(accession, HIS_PACS, (ID,)),)


@pytest.mark.parametrize("verb", ["retrieve", "print", "download-multiple"])
def test_without_the_his_these_are_not_done(site, pacs, his, tmp_path, verb):
    accession = f"D{verb}"
    hold(pacs, tmp_path, accession)
    view = site.order(accession, verb=verb)
    assert (view.state, view.error_kind) == (OrderState.FAILED, OrderError.PATIENT_UNKNOWN)
    his.down = 503
    view = site.order(accession, verb=verb)
    assert (view.state, view.error_kind) == (OrderState.FAILED, OrderError.PATIENTS_UNAVAILABLE)
    assert not pacs.moves


@pytest.mark.parametrize("verb", ["download", "forward"])
def test_without_the_his_these_go_on_and_say_so(site, pacs, his, tmp_path, verb):
    accession = f"G{verb}"
    hold(pacs, tmp_path, accession)
    view = site.order(accession, verb=verb)
    assert (view.state, view.his) == (OrderState.DONE, "unknown")
    his.down = 503
    view = site.order(accession, verb=verb, again=True)
    assert (view.state, view.his) == (OrderState.DONE, "not asked")


def test_nothing_of_what_the_his_says_is_written_down(site, pacs, his, tmp_path):
    hold(pacs, tmp_path, known(his, "SECRET", "MRN-778899", "POE XAVERIUS"))
    site.order("SECRET")
    hold(pacs, tmp_path / "2", known(his, "SECRET2", "MRN-778899", "ROE ANN"))
    assert site.order("SECRET2").state == OrderState.DONE
    for file in site.up.spool.root.glob("ledger.sqlite3*"):
        assert not {word for word in (b"778899", b"XAVERIUS") if word in file.read_bytes()}
    assert "778899" not in site.up.text()


# --- a person lets it through ---------------------------------------------------------------------------------


def test_a_person_lets_a_difference_between_sources_through_for_one_order(site, pacs, his, tmp_path):
    accession = known(his, "ALLOW", "99", "POE BOB")
    hold(pacs, tmp_path, accession, PatientID="OLD-9")
    pacs.find = says(**ANN)
    why = "merged on Monday, asked Dr Poe"
    view = site.order(accession, destination="disc", allow_identity=why)
    assert (view.state, view.identity_allowed) == (OrderState.DONE, True)
    assert view.differing == (
        SourceDifference(accession, HIS_PACS, (ID, NAME)),
        SourceDifference(accession, PACS_IMAGES, (ID,)),
    )
    assert why not in site.up.text()
    lines = [line for line in site.up.text().splitlines() if f"identity-differs order={view.id} " in line]
    assert ["identity=allowed" in line for line in lines] == [True, True]
    assert view.result is not None
    readme = (taken_apart(Path(view.result.path), tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert f"***   {why}" in readme
    assert refused(site.order(accession, destination="disc"), SourceDifference(accession, HIS_PACS, (ID, NAME)))


def test_nobody_lets_two_patients_through(site, pacs, his, tmp_path):
    hold(pacs, tmp_path / "1", known(his, "TWO1"))
    hold(pacs, tmp_path / "2", known(his, "TWO2", "0815", "POE BOB"), **BOB)
    view = site.order("TWO1", "TWO2", allow_identity="because I say so")
    assert (view.error_kind, pacs.moves) == (OrderError.MORE_THAN_ONE_PATIENT, [])
    known(his, "TWO2")
    pacs.find = says(**ANN)
    view = site.order("TWO1", "TWO2", allow_identity="because I say so")
    assert (view.error_kind, view.sent) == (OrderError.MORE_THAN_ONE_PATIENT, 0)
    assert {one.between for one in view.differing} == {(IdentitySource.IMAGES,), PACS_IMAGES}


# --- many at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "patients"), [pytest.param(20, 8), pytest.param(200, 40, marks=pytest.mark.long)]
)
def test_of_many_orders_at_once_only_those_with_another_patient_s_images_stay(tmp_path, orders, patients):
    """Every tenth study is sent with the patient of another one in it, under the UIDs that were asked for."""
    port = free_port()
    with (
        odd_pacs(port) as pacs,
        orders_site(tmp_path, pacs.archive(), port, shim={}, pacs={"moves_at_once": 8}) as site,
    ):
        whose, swapped = {}, set()
        for number in range(orders):
            one = number % patients
            who = {
                "PatientID": f"P{one}",
                "PatientName": f"FAMILY{one}^X",
                "PatientBirthDate": f"19{one + 10}0101",
            }
            uid = hold(pacs, tmp_path / str(number), f"N{number}", **who)
            whose[uid] = who["PatientID"]
            if number % 10 == 3:
                swapped.add(uid)

        def swaps(move: Move) -> None:
            wanted = move.wanted
            if str(move.identifier.StudyInstanceUID) in swapped:
                wanted = [another(one) for one in wanted]
            move.respond(PENDING, remaining=len(wanted))
            move.send(wanted)
            move.respond(SUCCESS, completed=len(wanted))

        pacs.move = swaps
        numbers = {site.place(f"N{number}").order_id: number for number in range(orders)}
        ended = {numbers[one]: site.wait(one, seconds=600) for one in numbers}
        states = Counter((view.state, view.error_kind) for view in ended.values())
        assert states == {
            (OrderState.DONE, None): orders - len(swapped),
            (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT): len(swapped),
        }
        left = Counter()
        for file in site.delivered():
            found = pydicom.dcmread(file, stop_before_pixels=True)
            assert whose[str(found.StudyInstanceUID)] == found.PatientID
            left[str(found.StudyInstanceUID)] += 1
        assert left == {uid: 3 for uid in whose if uid not in swapped}


def another(one: Dataset) -> Dataset:
    other = one.copy()
    other.file_meta = one.file_meta
    other.PatientID, other.PatientName, other.PatientBirthDate = "X9", "OTHER^WOMAN", "19440404"
    return other
