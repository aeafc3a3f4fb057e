import pytest
from sqlalchemy import create_engine, text
from support.peers.fake_dcm4chee import Answer, FakeDcm4chee
from support.studies.small_studies import STUDY, Attempts, consign, last_of, make_item, make_study

from pipeline.destinations import from_table
from pipeline.errors import Configuration, Held, PeerUnavailable, Permanent, StorestowError, Transient
from pipeline.model import ReceiptState

HERE = "Example Hospital"


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


@pytest.fixture
def registry(tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    engine = create_engine(url)
    with engine.begin() as change:
        change.execute(text("create table studies (uid text, institution text, other text)"))
        change.execute(
            text("insert into studies values (:uid, :name, 'x')"),
            [{"uid": "1.2.3", "name": "Elsewhere"}, {"uid": "1.2.4", "name": " Example   Hospital "}],
        )
    engine.dispose()
    return url


def guarded(archive, guard):
    return from_table({"name": "archive", "kind": "stow", "url": archive.url, "guard": guard})


def outcome(destination, items, *, released=False):
    receipts, error = [], None
    attempts = Attempts()
    try:
        receipts.extend(destination.deliver(consign(items, attempts, released=released)))
    except StorestowError as raised:
        error = raised
    return last_of(receipts), error, attempts.uids


QIDO = {"kind": "qido"}


def test_an_unknown_study_goes(archive, tmp_path):
    receipts, error, _ = outcome(guarded(archive, QIDO), make_study(tmp_path, 2))
    assert error is None
    assert len(receipts) == 2


@pytest.mark.parametrize("name", [HERE, "  Example \t Hospital ", ""])
def test_a_study_registered_here_or_nowhere_goes(archive, tmp_path, name):
    archive.add(STUDY, "1.2.77", "1.2.77.1", institution=name)
    _, error, _ = outcome(guarded(archive, QIDO), make_study(tmp_path, 2))
    assert error is None


def test_composed_and_decomposed_accents_are_the_same_name(archive, tmp_path):
    archive.add(STUDY, "1.2.77", "1.2.77.1", institution="Cli\u0301nica")
    item = make_item(tmp_path, 1, institution="Cl\u00ednica", SpecificCharacterSet="ISO_IR 192")
    _, error, _ = outcome(guarded(archive, QIDO), [item])
    assert error is None


@pytest.mark.parametrize("name", ["Elsewhere", "example hospital", "Example Hospital 2"])
def test_nothing_of_a_study_registered_elsewhere_is_sent(archive, tmp_path, name):
    archive.add(STUDY, "1.2.77", "1.2.77.1", institution=HERE)
    archive.add(STUDY, "1.2.78", "1.2.78.1", institution=name)
    receipts, error, attempted = outcome(guarded(archive, QIDO), make_study(tmp_path, 3))
    assert isinstance(error, Held)
    assert isinstance(error, Permanent)
    assert "registered at" in str(error)
    assert name in str(error)
    assert (receipts, attempted, archive.stores) == ({}, [], [])


def test_a_person_can_release_it(archive, tmp_path):
    archive.add(STUDY, "1.2.78", "1.2.78.1", institution="Elsewhere")
    receipts, error, _ = outcome(guarded(archive, QIDO), make_study(tmp_path, 3), released=True)
    assert error is None
    assert all(receipt.state is ReceiptState.STORED for receipt in receipts.values())


def test_what_was_attempted_before_was_allowed_before(archive, tmp_path):
    items = [make_item(tmp_path, 1, attempted=True), make_item(tmp_path, 2)]
    archive.add(STUDY, "1.2.78", "1.2.78.1", institution="Elsewhere")
    _, error, _ = outcome(guarded(archive, QIDO), items)
    assert error is None


def test_without_a_mapped_institution_it_holds_back_and_tells_the_line_to_paste(archive, tmp_path):
    _, error, _ = outcome(guarded(archive, QIDO), [make_item(tmp_path, 1, institution=None)])
    assert isinstance(error, Held)
    assert '"CT1": "<InstitutionName>"' in str(error)
    assert archive.stores == []


def test_two_institutions_in_one_study_cannot_both_be_the_registered_one(archive, tmp_path):
    archive.add(STUDY, "1.2.77", "1.2.77.1", institution=HERE)
    items = [make_item(tmp_path, 1), make_item(tmp_path, 2, institution="Elsewhere")]
    _, error, _ = outcome(guarded(archive, QIDO), items)
    assert isinstance(error, Held)


@pytest.mark.parametrize("status", [500, 503])
def test_no_answer_is_no_leave(archive, tmp_path, status):
    archive.every_query = Answer(status, b"java.lang.NullPointerException")
    _, error, attempted = outcome(guarded(archive, QIDO), make_study(tmp_path, 1))
    assert isinstance(error, PeerUnavailable)
    assert (attempted, archive.stores) == ([], [])


def test_a_name_from_the_archive_stays_one_short_line(archive, tmp_path):
    archive.add(STUDY, "1.2.78", "1.2.78.1", institution="Else\nwhere " + "x" * 500)
    _, error, _ = outcome(guarded(archive, QIDO), make_study(tmp_path, 1))
    assert "\n" not in str(error)
    assert len(str(error)) < 120


def sql(url, query="select institution from studies where uid = :study_instance_uid", **more):
    return {"kind": "sql", "url": url, "query": query, **more}


@pytest.mark.parametrize(("study", "held"), [("1.2.3", True), ("1.2.4", False), ("1.2.5", False)])
def test_a_database_decides(archive, tmp_path, registry, study, held):
    _, error, _ = outcome(guarded(archive, sql(registry)), [make_item(tmp_path, 1, study=study)])
    assert isinstance(error, Held) is held
    assert bool(archive.stores) is not held


def test_a_uid_is_bound_and_never_a_part_of_the_query(archive, registry):
    guard = guarded(archive, sql(registry)).guard
    assert list(guard.institutions_of("x' or '1'='1", None)) == []
    assert list(guard.institutions_of("1.2.3", None)) == ["Elsewhere"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select institution from nowhere where uid = :study_instance_uid", Transient),
        ("selec institution from studies where uid = :study_instance_uid", Transient),
        ("select institution, other from studies where uid = :study_instance_uid", Configuration),
    ],
)
def test_a_query_that_fails_sends_nothing(archive, tmp_path, registry, query, expected):
    _, error, _ = outcome(guarded(archive, sql(registry, query)), make_study(tmp_path, 1))
    assert isinstance(error, expected)
    assert archive.stores == []


def test_a_database_that_is_away_is_waited_for(archive, tmp_path):
    away = f"sqlite:///{tmp_path / 'no such folder' / 'registry.sqlite3'}"
    _, error, _ = outcome(guarded(archive, sql(away)), make_study(tmp_path, 1))
    assert isinstance(error, Transient)
    assert archive.stores == []


def test_a_missing_driver_is_named(archive, tmp_path):
    _, error, _ = outcome(guarded(archive, sql("postgresql+psycopg2://u@h/d")), make_study(tmp_path, 1))
    assert isinstance(error, Configuration)
    assert "psycopg2" in str(error)


@pytest.mark.parametrize(
    ("guard", "word"),
    [
        ({"kind": "oracle"}, "kind"),
        ({"kind": "qido", "url": "x"}, "url"),
        (sql("postgresql://user:secret@host/db"), "password"),
        (sql("not a url"), "guard.url"),
        (sql("sqlite://", "select institution from studies"), ":study_instance_uid"),
        (sql("sqlite://", password_env="A", password_file="/b"), "one of"),
    ],
)
def test_a_guard_that_cannot_work_is_refused_when_the_configuration_is_read(archive, guard, word):
    with pytest.raises(ValueError, match=word) as refusal:
        guarded(archive, guard)
    assert "postgresql://user:secret" not in str(refusal.value).split("[type=")[0]
