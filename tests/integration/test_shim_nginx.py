"""The old links through the real nginx, configured as docs/nginx.conf says."""

import concurrent.futures
import socket
import time
from urllib.parse import urljoin

import pytest
import requests
from support.machine.dicom_programs import wait_until
from support.peers.nginx import nginx
from support.sites.shim_site import BROWSER, FOUND, KEY, forms_of, running_shim

from pipeline.model import OrderState
from pipeline.web import patient_names

pytestmark = pytest.mark.programs

PRINT = "/send_rimage_multiple.php?accession_number=A1"
STATUS_KEY = "a-key-that-only-reads"
HOSTS = ["his.example.org", "127.0.0.1"]
DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """A shim, and nginx in front of it."""
    folder = tmp_path_factory.mktemp("front")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_shim(folder, patch, shim={"hosts": HOSTS, "status_key": STATUS_KEY}) as shim,
    ):
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        with nginx(folder / "nginx", shim_port=int(shim.url.rpartition(":")[2]), key=KEY) as url:
            yield shim, url


@pytest.fixture
def shim(front):
    front[0].orders.forget()
    return front[0]


@pytest.fixture
def url(front):
    return front[1]


@pytest.mark.parametrize(
    ("path", "verb"),
    [
        ("/mkiso.php?accession_number=A1", "download"),
        ("/mkiso_multiple.php?accession_number=A1,B2", "download-multiple"),
        ("/send_rimage_multiple.php?accession_numbers=A1,B2", "print"),
        ("/mkiso2.php?accession_number=A1", "forward"),
    ],
)
def test_an_old_link_reaches_its_order_without_a_key_of_the_client(shim, url, path, verb):
    shim.orders.plan = {**DONE, "result": shim.file()}
    assert requests.get(url + path, timeout=20).status_code == 200
    (asked,) = shim.orders.asked
    assert asked["verb"] == verb


def test_what_a_link_says_reaches_us_as_it_was_said(shim, url):
    shim.orders.plan = DONE
    requests.get(url + PRINT + "%2C%20B%2F2&modality=CT&again=1", timeout=20)
    (asked,) = shim.orders.asked
    assert (asked["accessions"], asked["modalities"], asked["again"]) == (("A1", "B/2"), ("CT",), True)


@pytest.mark.parametrize(
    "forged", [{"X-API-Key": "forged"}, {"X-Api-Key": KEY + "x"}, {"Authorization": "Bearer forged"}]
)
def test_a_forged_key_is_replaced_by_nginxs_own(shim, url, forged):
    shim.orders.plan = DONE
    assert requests.get(url + PRINT, headers=forged, timeout=20).status_code == 200


def test_the_state_for_a_fleet_is_behind_its_own_key_and_at_no_other_address(url):
    own = {"Authorization": f"Bearer {STATUS_KEY}"}
    assert requests.get(f"{url}/api/status", headers=own, timeout=20).json()["version"]
    for headers in ({}, {"Authorization": f"Bearer {KEY}"}):
        assert requests.get(f"{url}/api/status", headers=headers, timeout=20).status_code == 401
    assert requests.get(f"{url}/pacs/api/status", headers=own, timeout=20).status_code == 401


def test_a_key_is_needed_where_nginx_is_gone_round(shim):
    assert shim.request("GET", PRINT, key=None).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api/iso/print?accession_number=A1", "/patient/by-accession", "/mkiso.php/x", "/orders/1-x"),
        *("/pacs/patient/by-accession?accession_number=A1", "/pacs//patient/by-accession?accession_number=A1"),
        *(
            "/pacs/%70atient/by-accession?accession_number=A1",
            "/pacs/x/../patient/by-accession?accession_number=A1",
        ),
        "/pacs/orders/..%2fpatient/by-accession?accession_number=A1",
    ],
)
def test_nothing_else_is_passed_on(shim, url, path):
    assert raw(url, f"GET {path} HTTP/1.1", "Host: his.example.org").startswith(b"HTTP/1.1 404 ")
    assert not shim.orders.asked


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("GET /mkiso.php?accession_number=A1 HTTP/1.1", "Host: evil.example"),
        ("GET /mkiso.php?accession_number=A1 HTTP/1.1", "Host: his.example.org.evil.example"),
        ("GET http://evil.example/mkiso.php?accession_number=A1 HTTP/1.1", "Host: his.example.org"),
        ("GET /mkiso.php?accession_number=A1 HTTP/1.0", "X-Nothing: 1"),
    ],
)
def test_who_asks_for_another_name_gets_no_answer_at_all(shim, url, line, host):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"an image")}
    assert raw(url, line, host) == b""
    assert not shim.orders.asked


def test_a_proxy_that_asks_in_absolute_form_is_answered(shim, url):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"an image")}
    answer = raw(url, "GET http://his.example.org/mkiso.php?accession_number=A1 HTTP/1.1", "Host: his.example.org")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nan image")


def test_a_link_with_bytes_that_no_address_may_hold_reaches_its_order(shim, url):
    shim.orders.plan = DONE
    answer = raw(url, f"GET {PRINT}&nama=JOS\xc9 HTTP/1.1", "Host: his.example.org")
    assert answer.startswith(b"HTTP/1.1 200 ")
    refused = raw(url, f"GET {PRINT}\xc9 HTTP/1.1", "Host: his.example.org")
    assert b"invalid accession_number" in refused


def raw(url, *lines):
    """Send a request as it stands, and return all that comes until the connection is closed."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_broken_download_is_resumed(shim, url):
    content = bytes(range(256)) * 4000
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(content)}
    link = url + "/mkiso.php?accession_number=A1"
    with requests.get(link, stream=True, timeout=20) as broken:
        begun = next(broken.iter_content(300_000))
    rest = requests.get(link, headers={"Range": f"bytes={len(begun)}-"}, timeout=20)
    assert rest.status_code == 206
    assert begun + rest.content == content


def test_an_image_is_not_kept_by_nginx_while_the_client_is_slow(shim, url, front):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(bytes(64 << 20), "big.iso")}
    with requests.get(url + "/mkiso.php?accession_number=A1", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Length"] == str(64 << 20)
        next(answer.iter_content(1 << 16))
        time.sleep(0.5)
        kept = sum(file.stat().st_size for file in (shim.folder / "nginx/proxy").rglob("*") if file.is_file())
        assert kept == 0
        assert sum(map(len, answer.iter_content(1 << 20))) > 1 << 16


def test_a_browser_is_led_to_the_page_and_its_download_through_nginx(shim, url):
    shim.orders.plan = {**DONE, "result": shim.file(b"image")}
    page = requests.get(url + "/mkiso.php?accession_number=A1", headers=BROWSER, timeout=20)
    assert page.status_code == 200
    assert page.url.startswith(f"{url}/mkiso.php?order=")
    assert "Ready" in page.text
    assert requests.get(page.url + "&file=1", timeout=20).content == b"image"
    assert requests.get(url + "/mkiso.php?asset=page.css", timeout=20).status_code == 200
    ((action, fields),) = forms_of(page)
    again = requests.post(urljoin(page.url, action), data=fields, timeout=20, allow_redirects=False)
    assert again.status_code == 303
    assert (
        requests.get(urljoin(page.url, again.headers["Location"]), headers=BROWSER, timeout=20).status_code == 200
    )


def test_the_number_of_a_request_is_in_nginxs_answer(shim, url):
    answer = requests.get(url + "/mkiso.php?accession_number=*", timeout=20)
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def order_that_takes(shim, url, seconds):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answer = threads.submit(requests.get, url + PRINT, timeout=seconds + 30)
        wait_until(lambda: shim.orders.views, what="the order")
        time.sleep(seconds)
        assert not answer.done()
        shim.orders.change(1, **DONE)
        return answer.result(30)


def test_a_long_order_is_answered_as_json(shim, url):
    assert order_that_takes(shim, url, 3).json()["files_sent"] == 812


@pytest.mark.long
def test_an_order_of_more_than_two_minutes_is_answered_as_json(shim, url):
    assert order_that_takes(shim, url, 125).json()["files_sent"] == 812
