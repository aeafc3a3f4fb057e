"""The four old links against a whole site: a real PACS, a real publisher, and the real nginx in front."""

import concurrent.futures
import time

import pytest
import requests
from support.machine.dicom_programs import free_port, orthanc, wait_until
from support.peers.archives import OUR_AE_TITLE, orthanc_archive, study
from support.peers.nginx import nginx
from support.sites.orders_site import orders_site
from support.sites.shim_site import BROWSER, KEY

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """A PACS with three studies of one patient and one of another, a publisher, an archive, a site, and nginx."""
    folder = tmp_path_factory.mktemp("hospital")
    door, http = free_port(), free_port()
    discs = folder / "discs"
    discs.mkdir()
    with (
        orthanc_archive(folder / "pacs", door) as pacs,
        orthanc(folder / "publisher") as publisher,
        orthanc(folder / "archive") as archive,
    ):
        for accession, patient in (("A1", "P1"), ("B2", "P1"), ("C3", "P1"), ("X9", "P2")):
            pacs.store(*study(folder / accession, accession, instances=4, patient=patient))
        destinations = [
            {"name": "disc", "kind": "iso", "folder": str(discs)},
            peer("publisher", publisher.dicom_port),
            peer("archive", archive.dicom_port),
        ]
        shim = {
            "port": http, "api_key": KEY, "download": "disc", "print": "publisher", "forward": ["archive"],
        }  # fmt: skip
        with (
            orders_site(folder / "site", pacs, door, destinations=destinations, shim=shim) as site,
            nginx(folder / "nginx", shim_port=http, key=KEY) as url,
        ):
            wait_until(lambda: is_up(http), what="the shim")
            yield url, http, publisher, archive, site


def peer(name, port):
    return {
        "name": name, "kind": "cstore", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": port,
        "calling_ae_title": OUR_AE_TITLE,
    }  # fmt: skip


def is_up(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/api/health", timeout=20).status_code == 200
    except requests.RequestException:
        return False


def get(url, **options):
    return requests.get(url, timeout=90, **options)


def test_print_sends_the_study_to_the_publisher_once(hospital, record_property):
    url, _, publisher, _, site = hospital
    answer = get(f"{url}/send_rimage_multiple.php?accession_number=A1,B2")
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["status"], body["accessions_sent"], body["files_sent"]) == ("ok", ["A1", "B2"], 8)
    assert body["patient_name"] == "Name^P1"
    assert body["destination"] == f"127.0.0.1:{publisher.dicom_port}"
    assert len(publisher.instances()) == 8
    again = get(f"{url}/send_rimage_multiple.php?accession_numbers=B2,A1").json()
    assert (again["already_sent"], again["files_sent"]) == (True, 8)
    assert site.up.text().count("order-ended") >= 1
    record_property("table: /send_rimage_multiple.php", f"{body}\n{again}")


def test_forward_sends_the_study_to_the_archive(hospital, record_property):
    url, _, _, archive, _ = hospital
    body = get(f"{url}/mkiso2.php?accession_number=C3").json()
    assert (body["status"], body["files_sent"]) == ("ok", 4), body
    assert "patient_name" not in body
    assert len(archive.instances()) == 4
    record_property("table: /mkiso2.php", str(body))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/mkiso.php?accession_number=A1", "A1.iso"),
        ("/mkiso_multiple.php?accession_number=A1,B2", "NameP1-A1-B2.iso"),
    ],
)
def test_a_download_is_an_image_with_its_name_that_can_be_resumed(hospital, tmp_path, path, name, record_property):
    url = hospital[0]
    began = time.monotonic()
    with get(url + path, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        first = time.monotonic() - began
        content = answer.content
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert content[0x8001:0x8006] == b"CD001"  # ECMA-119 8.4: a volume descriptor
    rest = get(url + path, headers={"Range": "bytes=40000-"})
    assert (rest.status_code, rest.content) == (206, content[40000:])
    record_property(f"table: {path}", f"200 {name} {len(content)} bytes, first byte after {first:.1f} s")


def test_a_browser_follows_its_order_to_the_image(hospital):
    url = hospital[0]
    page = get(f"{url}/mkiso.php?accession_number=B2", headers=BROWSER)
    assert page.status_code == 200
    wait_until(
        lambda: "Ready: the download" in (seen := get(page.url, headers=BROWSER).text) and seen,
        seconds=60,
        what="the page",
    )
    image = get(page.url.partition("&")[0] + "&file=1")
    assert (image.status_code, image.content[0x8001:0x8006]) == (200, b"CD001")


def test_two_who_ask_at_once_share_one_order(hospital):
    url, _, publisher, _, _ = hospital
    before = len(publisher.instances())
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answers = list(threads.map(get, [f"{url}/send_rimage_multiple.php?accession_number=C3"] * 3))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(publisher.instances()) == before + 4


@pytest.mark.parametrize(
    ("path", "status", "words", "more"),
    [
        (
            "/mkiso.php?accession_number=NOWHERE",
            404,
            "no DICOM data for accession_number",
            {"missing": ["NOWHERE"]},
        ),
        (
            "/send_rimage_multiple.php?accession_number=A1,NOWHERE",
            404,
            "no DICOM data for accession_number",
            {"missing": ["NOWHERE"]},
        ),
        ("/mkiso_multiple.php?accession_number=A1,X9", 409, "more than one patient", {}),
        ("/mkiso.php?accession_number=*", 400, "invalid accession_number", {}),
        ("/mkiso2.php?accession_number=A1&to=disc", 400, "invalid destination", {}),
    ],
)
def test_what_cannot_be_answered_says_why(hospital, path, status, words, more):
    answer = get(hospital[0] + path)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (status, words)
    assert {key: body[key] for key in more} == more


def test_what_the_pacs_knows_of_several_is_sent_when_the_asker_says_so(hospital):
    body = get(f"{hospital[0]}/mkiso2.php?accession_number=A1,NOWHERE&missing=allow").json()
    assert (body.get("accessions_sent"), body.get("missing")) == (["A1"], ["NOWHERE"]), body


def test_the_site_is_healthy_and_its_log_names_nobody(hospital):
    _, http, _, _, site = hospital
    health = requests.get(f"http://127.0.0.1:{http}/api/health", headers={"X-API-Key": KEY}, timeout=60)
    assert health.json()["status"] == "ok", health.json()
    assert "Name" not in site.up.text()
    assert "P1" not in site.up.text()
