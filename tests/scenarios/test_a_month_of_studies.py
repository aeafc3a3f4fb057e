"""The ledger is as large after a month as after its first two weeks: what comes in a day goes after its time."""

import json
from itertools import pairwise

import pytest
from support.sites.line_site import NULL, settings_for, working
from support.sites.simulated_days import SimulatedDays

from pipeline.operate.trace import archived

KEPT_DAYS = 10


@pytest.mark.parametrize(
    ("studies", "instances"), [(8, 3), pytest.param(500, 20, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_thirty_days_of_studies_leave_the_ledger_flat(tmp_path, studies, instances):
    settings = settings_for(tmp_path, destinations=[NULL], keep_originals="1d", keep_accounts=f"{KEPT_DAYS}d")
    with working(settings) as (site, worker):
        passing = SimulatedDays(site, worker, tmp_path, studies=studies, instances_each=instances)
        ends = [passing.pass_day(day) for day in range(30)]
        a_day = studies * instances
        steady = ends[KEPT_DAYS + 3 :]
        assert ends[KEPT_DAYS - 1].instances >= KEPT_DAYS * a_day, "nothing goes before its time"
        assert {end.instances for end in steady} == {steady[0].instances}
        assert steady[0].instances <= (KEPT_DAYS + 3) * a_day + 1
        sizes = [end.ledger for end in steady]
        assert max(sizes) <= 1.05 * min(sizes), sizes
        assert all(a.archive < b.archive for a, b in pairwise(steady))
        first = next(iter(archived("1.2.3.1000", site.spool)["studies"]))
        assert len(first["instances"]) == instances, json.dumps(first)[:500]
