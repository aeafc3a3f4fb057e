"""A site of the fleet or a node that is lost is an alarm, in words of ours alone."""

import time

from support.machine.dicom_programs import free_port
from support.sites.fleet_sites import answer_of, answering, fleet_site, report

from pipeline.alarms.conditions import MOMENT, Condition, lost_nodes, lost_sites
from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.fleet_watch import FleetWatch, SiteView
from pipeline.ledger.nodes import KnownNode, NodeReport


def test_a_site_that_is_lost_is_an_alarm_and_one_that_only_needs_somebody_is_not(tmp_path):
    """Its own worker tells what it needs."""
    well = answer_of(report(quarantine=3).model_dump_json().encode())
    with answering(well) as port, answering(answer_of(b"evil words")) as lying:
        ports = {"well": port, "lies": lying, "dead": free_port()}
        watch = FleetWatch([fleet_site(tmp_path, name, port) for name, port in ports.items()])
        assert list(lost_sites(watch.views(time.time()))) == []
        watch.ask_once()
        found = list(lost_sites(watch.views(time.time())))
    assert found == [
        Condition("site:dead", "the site dead cannot be reached", MOMENT),
        Condition("site:lies", "the site lies answers with what is no status", MOMENT),
    ]


def test_every_failure_has_its_words():
    for failure in SiteFailure:
        view = SiteView("north", "https://north.example", None, failure, "", 1.0, None, ())
        assert len(list(lost_sites([view]))) == (failure is not SiteFailure.NOT_ASKED)


def node(name: str, seen_seconds: float, *, draining: bool = False, lost_at: float | None = None) -> KnownNode:
    return KnownNode(NodeReport(name, f"worker-{name}", "1", (), 0, ""), seen_seconds, draining, lost_at, 0)


def test_another_node_that_is_lost_is_an_alarm_and_one_that_is_serviced_is_not():
    known = [
        node("own", 40.0),
        node("well", 4.0),
        node("silent", 30.0),
        node("ended", 1.0, lost_at=1.0),
        node("serviced", 900.0, draining=True, lost_at=1.0),
    ]
    found = list(lost_nodes(known, "worker-own", 30.0))
    assert [(one.key, one.after) for one in found] == [("node:silent", MOMENT), ("node:ended", MOMENT)]
    assert found[0].text == (
        "node silent has ended or cannot report; the others do its work: storestow forget silent, "
        "if it does not come back"
    )
