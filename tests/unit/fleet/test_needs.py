"""What needs a person at a site."""

import pytest
from support.sites.fleet_sites import report

from pipeline.fleet.ask_site import SiteFailure
from pipeline.fleet.needs import Need, needs_of

NOW = 1_800_000_000.0


def destination(**values):
    return {"name": "archive", "kind": "stow", "state": "up", "waiting": 0, "oldest_seconds": None, **values}


@pytest.mark.parametrize(
    ("values", "needs"),
    [
        ({}, ()),
        ({"destinations": [destination(waiting=40, oldest_seconds=900.0)]}, ()),
        ({"destinations": [destination(state="paused"), destination(state="down")]},
         (Need.DESTINATION_DOWN, Need.PAUSED)),
        ({"destinations": [destination(state="gone", kind=None)]}, (Need.DESTINATION_GONE,)),
        ({"destinations": [destination(state="a-word-of-a-newer-release")]}, (Need.DESTINATION_DOWN,)),
        ({"worker": "stale"}, (Need.WORKER,)),
        ({"receivers": [{"name": "a", "ae_title": "A", "state": "down"}]}, (Need.RECEIVER,)),
        ({"quarantine": 1, "refused": 2}, (Need.REFUSED, Need.QUARANTINE)),
        ({"space": {"free": 1, "size": 2, "state": "low"}}, (Need.DISK_LOW,)),
        ({"space": {"free": 1, "size": 2, "state": "none"}, "worker": "down"}, (Need.DISK_FULL, Need.WORKER)),
        ({"at": NOW - 300}, (Need.CLOCK,)),
        ({"silent": [{"receiver": "a", "calling_ae_title": "CT1", "since": 1.0}]}, (Need.SILENT,)),
        ({"alarms": [{"key": "down:archive", "since": 1.0}]}, (Need.ALARM,)),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_a_need_the_gravest_first(values, needs):
    assert needs_of(report(**{"at": NOW, **values}), None, NOW) == needs


def test_a_site_of_which_nothing_is_known_needs_a_person_but_not_before_it_was_asked():
    assert needs_of(None, SiteFailure.MALFORMED, NOW) == (Need.UNKNOWN,)
    assert needs_of(None, SiteFailure.NOT_ASKED, NOW) == ()
