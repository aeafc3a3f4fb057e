"""The links of the HIS over real HTTP: the answer to every situation, as the table of docs/shim.md has it."""

import pytest
from support.sites.shim_site import FOUND, KEY, running_shim

from pipeline.model import OrderError, OrderState
from pipeline.orders import MadeFile
from pipeline.web import patient_names
from pipeline.web.http_errors import STATUSES

PRINTED = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
A_LITTLE = {"expected": 42, "received": 37, "sent": 37}
PRINT = "/api/iso/print?accession_number=A1"


@pytest.fixture(scope="module")
def module_shim(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, running_shim(tmp_path_factory.mktemp("shim"), patch) as running:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        yield running


@pytest.fixture
def shim(module_shim):
    module_shim.orders.forget()
    return module_shim


def test_print_answers_what_was_sent_where(shim):
    shim.orders.plan = PRINTED
    answer = shim.get(PRINT, headers={"X-Request-ID": "his-42"})
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "accessions_sent": ["A1"],
        "patient_name": "DOE^JANE",
        "destination": "127.0.0.1:10105",
        "files_sent": 812,
        "already_sent": False,
        "request_id": "his-42",
    }


@pytest.mark.parametrize(
    ("path", "verb", "destination"),
    [
        ("/api/iso/print", "print", "publisher"),
        ("/api/iso/print-multiple", "print", "publisher"),
        ("/send_rimage_multiple.php", "print", "publisher"),
        ("/api/iso/forward", "forward", "archive"),
        ("/mkiso2.php", "forward", "archive"),
    ],
)
@pytest.mark.parametrize("spelling", ["accession_number", "accession_numbers"])
def test_each_address_and_each_spelling_sends_to_its_destination(shim, path, verb, destination, spelling):
    shim.orders.plan = PRINTED
    answer = shim.get(f"{path}?{spelling}=A1,B2")
    assert answer.json()["accessions_sent"] == ["A1", "B2"]
    (asked,) = shim.orders.asked
    assert (asked["verb"], asked["destination"]) == (verb, destination)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/iso/download?accession_number=ACC-1", "ACC-1.iso"),
        ("/mkiso.php?accession_number=ACC-1", "ACC-1.iso"),
        ("/mkiso.php?accession_numbers=ACC-1", "ACC-1.iso"),
        ("/api/iso/download-multiple?accession_numbers=A1,B2", "DOEJANE-A1-B2.iso"),
        ("/mkiso_multiple.php?accession_number=A1,B2", "DOEJANE-A1-B2.iso"),
        ("/mkiso_multiple.php?accession_numbers=A1", "DOEJANE-A1.iso"),
    ],
)
def test_a_download_is_an_attachment_with_its_name_and_length(shim, path, name):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"image" * 1000)}
    answer = shim.get(path)
    assert answer.status_code == 200
    assert answer.content == b"image" * 1000
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["Content-Length"] == "5000"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_empty_file_is_an_empty_download(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"")}
    answer = shim.get("/mkiso.php?accession_number=A1")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


def test_what_was_allowed_to_be_left_out_is_served_and_said(shim):
    shim.orders.plan = {**PRINTED, "state": OrderState.PARTIAL, "received": 640, "sent": 640, "missing": ("B2",)}
    answer = shim.get("/api/iso/print?accession_number=A1,B2&incomplete=yes&missing=allow")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["accessions_sent"], body["missing"], body["incomplete"]) == (["A1"], ["B2"], True)
    assert (body["received"], body["expected"]) == (640, 812)


def test_modalities_and_the_container_reach_the_order(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(name="X.zip")}
    answer = shim.get("/mkiso.php?accession_number=A1&modality=MR,CT&container=zip")
    assert (shim.orders.asked[0]["modalities"], shim.orders.asked[0]["container"]) == (("MR", "CT"), "zip")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="A1.zip"'


ROWS = [
    (OrderError.NO_DATA, 404, "no DICOM data for accession_number", {"missing": ["A1"]}),
    (OrderError.MORE_THAN_ONE_PATIENT, 409, "more than one patient", {}),
    (OrderError.CANCELLED, 409, "cancelled", {}),
    (OrderError.DISC_FAILED, 500, "ISO creation failed", {}),
    (OrderError.INTERNAL, 500, "internal error", {}),
    (OrderError.NOT_CONFIGURED, 501, "not configured", {}),
    (OrderError.PATIENT_UNKNOWN, 404, "accession_number not found", {}),
    (OrderError.PATIENTS_UNAVAILABLE, 502, "patient API unavailable", {}),
    (OrderError.PACS_UNREACHABLE, 502, "PACS unreachable", {}),
    (OrderError.MOVE_INCOMPLETE, 502, "PACS move incomplete", {"received": 640, "expected": 812, "failed": 3}),
    (OrderError.PUBLISHER_UNREACHABLE, 502, "CD Publisher unreachable", {"destination": "127.0.0.1:10105"}),
    (OrderError.RELAY_FAILED, 502, "DICOM relay failed", {"destination": "127.0.0.1:10105"}),
    (OrderError.RELAY_INCOMPLETE, 502, "DICOM relay incomplete", {"sent": 600, "refused": 40}),
    (OrderError.RECEIVER_NOT_READY, 503, "receiver not ready", {}),
    (OrderError.MOVE_TIMED_OUT, 504, "PACS move timed out", {"received": 640, "expected": 812, "failed": 3}),
]


def test_every_error_of_an_order_has_its_row():
    assert {row[0] for row in ROWS} == set(OrderError) == set(STATUSES)


@pytest.mark.parametrize(("error", "status", "words", "more"), ROWS, ids=[row[2] for row in ROWS])
def test_an_order_that_failed_answers_its_row_of_the_table(shim, error, status, words, more):
    counts = {"expected": 812, "received": 640, "failed": 3, "sent": 600, "refused": 40}
    missing = ("A1",) if error == OrderError.NO_DATA else ()
    shim.orders.plan = {"error_kind": error, "detail": "why it is so", "missing": missing, **counts}
    answer = shim.get(PRINT)
    body = answer.json()
    assert (answer.status_code, body["error"], body["detail"]) == (status, words, "why it is so")
    assert body["request_id"] == answer.headers["X-Request-ID"]
    for key, value in more.items():
        assert body[key] == value
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_an_order_that_stayed_partial_is_not_served_unless_its_asker_allowed_that(shim):
    shim.orders.plan = {"state": OrderState.PARTIAL, "error_kind": OrderError.MOVE_INCOMPLETE, "received": 37}
    shim.orders.plan["expected"] = 42
    body = shim.get(PRINT).json()
    assert (body["error"], body["received"], body["expected"]) == ("PACS move incomplete", 37, 42)


def test_what_nobody_allowed_to_be_left_out_is_no_success_although_something_was_sent(shim):
    stands = {"state": OrderState.PARTIAL, "error_kind": OrderError.MOVE_INCOMPLETE}
    shim.orders.plan = {**stands, **A_LITTLE}
    assert shim.get(PRINT).status_code == 502
    assert shim.get(PRINT + "&incomplete=yes").status_code == 200


def test_what_was_sent_is_counted_at_the_publisher_and_over_all_attempts(shim):
    shim.orders.plan = {**PRINTED, "sent": 12, "sent_before": 800, "received": 999}
    assert shim.get(PRINT).json()["files_sent"] == 812


def test_what_the_publisher_refused_is_no_success_whatever_was_allowed(shim):
    shim.orders.plan = {
        "state": OrderState.PARTIAL,
        "error_kind": OrderError.RELAY_INCOMPLETE,
        "sent": 40,
        "refused": 2,
    }
    answer = shim.get(PRINT + "&incomplete=yes")
    assert (answer.status_code, answer.json()["error"]) == (502, "DICOM relay incomplete")


def test_a_result_that_has_been_let_go_is_gone(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": MadeFile(str(shim.folder / "gone.iso"), "gone.iso", 5)}
    answer = shim.get("/mkiso.php?accession_number=A1")
    assert (answer.status_code, answer.json()["error"]) == (410, "result no longer kept")


def test_a_link_in_the_place_of_the_file_is_not_followed(shim):
    (shim.folder / "secret").write_text("secret")
    (shim.folder / "link.iso").symlink_to(shim.folder / "secret")
    shim.orders.plan = {"state": OrderState.DONE, "result": MadeFile(str(shim.folder / "link.iso"), "X.iso", 6)}
    assert shim.get("/mkiso.php?accession_number=A1").status_code == 410


@pytest.mark.parametrize(
    "path", ["/", "/mkiso.php", "/api/iso/print?accession_number=A1", "/orders/1-x", "/nowhere"]
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}],
)
def test_without_the_key_nothing_is_said_or_ordered(shim, path, headers):
    answer = shim.get(path, key=None, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert not shim.orders.asked


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}])
def test_either_header_shows_the_key(shim, headers):
    shim.orders.plan = PRINTED
    assert shim.get(PRINT, key=None, headers=headers).status_code == 200


def test_a_bug_answers_a_number_and_tells_nothing_else(shim, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("DOE^JANE at /var/spool")

    monkeypatch.setattr("pipeline.web.order_service.OrderService.place", broken)
    answer = shim.get(PRINT, headers={"X-Request-ID": "find-me"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error", "request_id": "find-me"}


def test_before_the_worker_has_made_a_ledger_the_receiver_is_not_ready(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        monkeypatch.setattr("pipeline.site.site_ledger.FILE_NAME", "not-there")
        answer = shim.get(PRINT)
    assert (answer.status_code, answer.json()["error"]) == (503, "receiver not ready")
    assert "not-there" not in answer.text


def test_more_orders_than_allowed_at_once_are_refused_with_a_time_to_come_back(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"max_concurrent": 2}) as shim:
        for number in ("A1", "A2"):
            assert shim.page(f"/mkiso.php?accession_number={number}").status_code == 200
        answer = shim.get("/mkiso.php?accession_number=A3")
        assert (answer.status_code, answer.json()["error"]) == (503, "too many concurrent requests")
        assert int(answer.headers["Retry-After"]) > 0
        assert shim.page("/mkiso.php?accession_number=A1").status_code == 200  # it shares one that is open


TOO_MANY = ",".join(map(str, range(21)))
SITUATIONS = [  # what is asked, how the order stands, and what docs/shim.md promises
    ("no accession number", "/mkiso.php", {}, 400, "invalid accession_number"),
    ("an empty one in a list", "/mkiso.php?accession_number=A,,B", {}, 400, "invalid accession_number"),
    ("a wildcard", "/mkiso.php?accession_number=A*", {}, 400, "invalid accession_number"),
    ("more than 20", f"/mkiso.php?accession_number={TOO_MANY}", {}, 400, "invalid accession_number"),
    ("to= not in forward", "/mkiso2.php?accession_number=A&to=disc", {}, 400, "invalid destination"),
    ("no key", "/mkiso.php?accession_number=A", {"key": None}, 401, "unauthorized"),
    ("a wrong key", "/mkiso.php?accession_number=A", {"key": "wrong"}, 401, "unauthorized"),
    *((f"the order says {row[0]}", PRINT, {"plan": row[0]}, row[1], row[2]) for row in ROWS),
]  # fmt: skip


def test_the_table_of_errors_is_answered_row_by_row(shim, record_property):
    lines = []
    for situation, path, about, status, words in SITUATIONS:
        shim.orders.forget()
        if "plan" in about:
            shim.orders.plan = {"error_kind": about["plan"], "detail": "why", "received": 640, "expected": 812}
        answer = shim.request("GET", path, key=about.get("key", KEY))
        assert (answer.status_code, answer.json()["error"]) == (status, words), situation
        body = {key: value for key, value in answer.json().items() if key not in {"error", "request_id"}}
        lines.append(f"{situation:42} {status}  {words:38} {body}")
    record_property("table: the errors of the HTTP interface, as answered", "\n".join(lines))
