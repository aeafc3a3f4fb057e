"""What waits says for whom or what, and until when; what waits for a destination that is gone can be given on."""

import contextlib
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working
from support.studies.discs import killed_at

from pipeline.commands import terminal
from pipeline.commands.check import findings
from pipeline.errors import Configuration, Usage
from pipeline.ledger import arrivals, deliveries, receipts, rerouting
from pipeline.ledger.claims import Fenced
from pipeline.ledger.tables import delivery
from pipeline.line import settle
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.line.delivery_items import NOT_REPRODUCIBLE, InstanceToSend, pinned
from pipeline.line.reconcile import reconcile
from pipeline.model import ReceiptState
from pipeline.operate.reroute import discard, reroute
from pipeline.operate.retry import retry
from pipeline.operate.status import status
from pipeline.operate.trace import trace
from pipeline.site.waiting import Wait, WaitsFor, waits

NOW = 1_800_000_000.0


def row(number=1, **values):
    about = {
        "id": number,
        "destination": "archive",
        "state": "waiting",
        "held": False,
        "reason": None,
        "order_id": None,
        "created_at": NOW - 100 + number,
        "due_at": NOW - 10,
    }
    return SimpleNamespace(**{**about, **values})


def noted(**values):
    about = {"paused": False, "down_since": None, "try_at": None, "reason": None}
    return {"archive": SimpleNamespace(**{**about, **values})}


def the_wait(rows, destinations=None, configured=("archive",)):
    return [wait for _, wait in waits(rows, destinations or {}, configured, NOW)]


def test_what_is_due_says_how_many_are_before_it():
    assert the_wait([row(3), row(1), row(2, state="sending")]) == [
        Wait(WaitsFor.TURN, NOW, "is next"),
        Wait(WaitsFor.ANSWER, None, "is being sent"),
        Wait(WaitsFor.TURN, None, "2 before it"),
    ]


def test_an_order_goes_before_the_line():
    (first, second) = waits([row(1), row(2, order_id=7)], {}, ["archive"], NOW)
    assert first[0].id == 2
    assert second[1].reason == "1 before it"


def test_what_was_put_off_says_until_when_and_why():
    assert the_wait([row(state="deferred", due_at=NOW + 60, reason="HTTP 503")]) == [
        Wait(WaitsFor.TIME, NOW + 60, "HTTP 503")
    ]


def test_behind_a_dead_destination_the_next_trial_counts():
    down = noted(down_since=NOW - 500, try_at=NOW + 90, reason="connection refused")
    (first, later) = the_wait([row(1), row(2, state="deferred", due_at=NOW + 300)], down)
    assert first == Wait(WaitsFor.PEER, NOW + 90, "the destination does not answer: connection refused")
    assert later.until == NOW + 300


def test_what_only_a_person_can_move_has_no_time():
    paused = noted(paused=True, reason="moving house")
    assert the_wait([row()], paused) == [Wait(WaitsFor.RESUME, None, "the destination is paused: moving house")]
    assert the_wait([row(held=True, reason="the ledger was lost")])[0] == Wait(
        WaitsFor.RETRY, None, "the ledger was lost"
    )
    assert the_wait([row(state="refused", reason="0xA900")])[0].what is WaitsFor.RETRY
    gone = the_wait([row(destination="old")])[0]
    assert (gone.what, gone.until) == (WaitsFor.CONFIGURATION, None)
    assert "storestow reroute old NEW" in gone.reason


# --- a destination that was renamed -----------------------------------------------------------------------------


def folder_destination(folder, name, **more):
    (folder / name).mkdir(exist_ok=True)
    return {"name": name, "kind": "folder", "folder": str(folder / name), **more}


@pytest.fixture
def stranded(tmp_path):
    """A site whose only destination was renamed from `old` to `new` while a study waited for it."""
    before = settings_for(tmp_path, destinations=[folder_destination(tmp_path, "old")])
    with working(before) as (site, worker):
        (tmp_path / "old").rename(tmp_path / "away")
        files = [instance(tmp_path, name, StudyInstanceUID="1.2.840.77") for name in ("a", "b")]
        arrive(site.spool, *files)
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
    return settings_for(tmp_path, destinations=[folder_destination(tmp_path, "new", encode="j2k")])


def test_what_waits_for_it_is_said_everywhere(stranded, caplog, capsys):
    with working(stranded) as (site, worker):
        worker.round()
        worker.round()
        said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("stranded ")]
        assert len(said) == 1
        assert "destination=old deliveries=1" in said[0]
        told = status(stranded, site.ledger)
        (gone,) = [one for one in told["destinations"] if one["name"] == "old"]
        assert (gone["state"], gone["waiting"]) == ("gone", 1)
        (waiting,) = told["attention"]
        assert waiting["waits_for"] == "configuration"
        assert waiting["next_attempt_at"] is None
        json.dumps(told)
        terminal.show_status(told)
        assert "old" in capsys.readouterr().out
        (traced, _) = trace("1.2.840.77", site.ledger, ["new"])["studies"][0]["instances"]
        assert traced["deliveries"][0]["waits_for"] == "configuration"
        assert "reroute old NEW" in traced["deliveries"][0]["message"]
        (found,) = [one for one in findings(stranded) if one.about == "destination old"]
        assert found.level == "error"
        assert "storestow discard --destination old" in found.text


def test_the_rest_of_the_site_starts_all_the_same(stranded):
    assert not [one for one in findings(stranded, peers=False) if one.about == "destination old"]


def test_rerouted_it_goes_to_the_new_one_from_the_originals_as_that_encodes(stranded, tmp_path):
    with working(stranded) as (site, worker):
        (number,) = reroute(stranded, site.ledger, "old", "new")
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1, "refused": 1}
        assert len(list((tmp_path / "new").rglob("*.dcm"))) == 2
        (first, _) = trace("1.2.840.77", site.ledger)["studies"][0]["instances"]
        old, new = first["deliveries"]
        assert (old["destination"], old["state"], old["code"]) == ("old", "refused", "rerouted")
        assert (new["destination"], new["state"], new["verified"]) == ("new", "stored", True)
        assert new["transfer_syntax"] == "1.2.840.10008.1.2.4.90"
        assert len(new["sent_sha256"]) == 64
        assert not status(stranded, site.ledger)["attention"]
        with pytest.raises(Usage):
            retry(site.ledger, None, None, release_guard=False)
        with site.ledger.reading() as look:
            assert arrivals.settled_before(look, time.time() + 1), "its originals may go"
        assert number


def test_what_is_pinned_is_sent_again_as_it_was(stranded, tmp_path):
    with working(stranded) as (site, worker):
        reroute(stranded, site.ledger, "old", "new")
        (tmp_path / "new").rename(tmp_path / "away-too")
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1, "refused": 1})
        pinned = {one["deliveries"][1]["sent_sha256"] for one in _instances(site)}
        assert len(pinned) == 2
        (tmp_path / "away-too").rename(tmp_path / "new")
        with site.ledger.transaction() as change:
            deliveries.make_due(change, "new", time.time())
        rounds(worker, until=lambda: states(site, "deliveries").get("delivered"))
        assert {one["deliveries"][1]["sent_sha256"] for one in _instances(site)} == pinned


def _instances(site):
    return trace("1.2.840.77", site.ledger)["studies"][0]["instances"]


def test_discarded_it_is_sent_nowhere_and_the_originals_stay_for_their_time_only(stranded, caplog):
    with working(stranded) as (site, worker):
        with pytest.raises(Usage, match="3 to 200"):
            discard(stranded, site.ledger, "old", " x ")
        discard(stranded, site.ledger, "old", "the old PACS was taken down")
        rounds(worker, until=all_settled(site))
        (first, _) = _instances(site)
        assert first["deliveries"][0]["code"] == "discarded"
        assert first["deliveries"][0]["message"].endswith("the old PACS was taken down")
        with site.ledger.reading() as look:
            (kept,) = arrivals.settled_before(look, time.time() + 1)
        settle.expire(site, time.time() + 30 * 86400)
        assert not (site.spool.settled / kept[0]).exists()
    assert "taken down" not in caplog.text


@pytest.mark.parametrize("point", ["rerouting", "giving-up"])
def test_killed_in_the_middle_nothing_is_decided_and_it_can_be_asked_for_again(point, stranded):
    with working(stranded) as (site, _):
        with killed_at(point):
            decide(point, stranded, site)
        assert states(site, "deliveries") in ({"deferred": 1}, {"waiting": 1})
        decide(point, stranded, site)
        assert states(site, "deliveries")["refused"] == 1


def decide(point, settings, site):
    if point == "rerouting":
        reroute(settings, site.ledger, "old", "new")
    else:
        discard(settings, site.ledger, "old", "the old PACS was taken down")


def test_killed_after_what_was_rerouted_got_its_pin_that_very_file_is_sent(stranded, tmp_path):
    with working(stranded) as (site, _):
        (number,) = reroute(stranded, site.ledger, "old", "new")
        with killed_at("pinned-first"):
            deliver(DueDelivery(number, stranded.destination_named("new")), site)
        pins = {one["deliveries"][1]["sent_sha256"] for one in _instances(site)}
    with working(stranded) as (site, worker):
        reconcile(site)
        rounds(worker, until=lambda: states(site, "deliveries").get("delivered"))
        assert {one["deliveries"][1]["sent_sha256"] for one in _instances(site)} >= pins - {""}
    assert len(pins - {""}) == 1
    assert len(list((tmp_path / "new").rglob("*.dcm"))) == 2


def test_what_is_pinned_meanwhile_is_sent_and_who_has_lost_the_delivery_pins_nothing(stranded):
    new = stranded.destination_named("new")
    with working(stranded) as (site, _):
        (number,) = reroute(stranded, site.ledger, "old", "new")
        with site.ledger.transaction() as change:
            row = deliveries.claim(change, number, time.time(), site.claimant, slots=1)
            waiting = receipts.items(change, number, site.spool.root)
        (one, other) = (InstanceToSend(identity, item, "modalities", number) for identity, item in waiting)
        with pytest.raises(Fenced):
            pinned(one, new, site, replace(row, claim="of another"))
        first = pinned(one, new, site, row)
        with site.ledger.transaction() as change:
            assert not rerouting.pin(change, number, one.identity, {"sha256": "0" * 64})
            assert rerouting.pin(change, number, other.identity, {"sha256": "0" * 64})
        assert pinned(one, new, site, row) == first
        refused = pinned(other, new, site, row)
        assert (refused.state, refused.message) == (ReceiptState.REFUSED, NOT_REPRODUCIBLE)


def test_nothing_is_rerouted_to_a_destination_that_is_not_there(stranded):
    with working(stranded) as (site, _):
        with pytest.raises(Configuration, match="no destination is named nwe; did you mean new"):
            reroute(stranded, site.ledger, "old", "nwe")
        with pytest.raises(Usage, match="nothing waits for the destination olt"):
            reroute(stranded, site.ledger, "olt", "new")
        assert states(site, "deliveries") in ({"deferred": 1}, {"waiting": 1})


def test_what_can_never_be_made_is_refused_with_its_reason(stranded):
    with working(stranded) as (site, worker):
        reroute(stranded, site.ledger, "old", "new")
        (folder,) = site.spool.arrivals.iterdir()
        for file in folder.glob("CT*"):
            file.write_bytes(file.read_bytes()[:-40])
        with contextlib.suppress(AssertionError):
            rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 2}, seconds=15)
        with site.ledger.reading() as look:
            states_of = [row.state for row in look.execute(delivery.select())]
        assert states_of == ["refused", "refused"]
