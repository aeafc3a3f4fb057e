"""Whatever happens in whatever order, every admitted file is in exactly one place, and nothing is lost."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site

from pipeline.ledger import FILE_NAME

POINTS = [
    *("admit-synced", "admitted", "intake-entering", "taken-in", "instance-prepared", "consigning", "consigned"),
    *("claimed", "deliver-attempt", "deliver-receipt", "filing-copied", "filing-named", "attempted", "concluded"),
    *("settle-account", "settle-renamed", "settling", "settled", "account-renewed", "quarantine-renamed"),
    *("correcting", "corrected", "reconciled", "ledger-creating"),
]


class Custody(RuleBasedStateMachine):
    """Arrivals, kills, faults of the archive, `retry`, lost outputs and lost ledgers, as they come."""

    scene: Scene

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.context = crash_site(Path(self.folder.name))
        self.site: CrashSite = self.context.__enter__()

    @rule(picked=st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True))
    def arrive(self, picked: list[int]) -> None:
        scene = self.scene
        files = [*scene.first, *scene.second, scene.other, scene.cut, scene.garbage, scene.empty]
        self.site.arrive(*(files[number] for number in picked))

    @precondition(lambda self: self.site.sent)
    @rule(point=st.sampled_from(POINTS), count=st.integers(1, 3))
    def work_and_die(self, point: str, count: int) -> None:
        self.site.killed("work", point=point, count=count)

    @rule(fails=st.booleans())
    def the_archive_refuses_one(self, fails: bool) -> None:
        self.site.archive.failing = {self.scene.uncertain: 0xA900} if fails else {}

    @rule()
    def lose_the_outputs(self) -> None:
        for file in self.site.spool.outputs.rglob("*.dcm"):
            file.unlink()

    @precondition(lambda self: (self.site.spool.root / FILE_NAME).exists())
    @rule()
    def lose_the_ledger(self) -> None:
        self.site.lose_the_ledger()

    @invariant()
    def every_file_is_in_one_place(self) -> None:
        self.site.assert_each_file_is_in_one_place()

    @invariant()
    def the_archive_has_one_content_of_each(self) -> None:
        self.site.assert_the_archive_has_one_content_of_each()

    def teardown(self) -> None:
        try:
            self.end_well()
        finally:
            self.context.__exit__(None, None, None)
            self.folder.cleanup()

    def end_well(self) -> None:
        """Have everything ended and retried; then all of it must be accounted for."""
        if not self.site.sent:
            return
        self.site.archive.failing = {}
        self.site.work()
        if any(row["state"] in {"refused", "waiting"} for row in self.site.deliveries()):
            self.site.run("retry", "--all")
            self.site.work()
        self.site.assert_all_is_accounted_for()


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)])
def test_an_instance_is_always_in_exactly_one_place(long, tmp_path_factory):
    Custody.scene = make_scene(tmp_path_factory.mktemp("scene"))
    run_state_machine_as_test(
        Custody,
        settings=settings(
            max_examples=300 if long else 10,
            stateful_step_count=8,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # an example takes seconds, and says what it did
            suppress_health_check=list(HealthCheck),
        ),
    )
