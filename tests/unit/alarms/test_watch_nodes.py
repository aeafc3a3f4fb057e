"""Alarms of a cluster: what all nodes share is told by one of them, what is wrong with a node by itself."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Connection, update
from support.machine.dicom_programs import free_port
from support.machine.postgresql import PostgresqlServer
from support.sites import ledger_place
from support.sites.line_site import RECEIVER, node_settings

from pipeline.alarms.channels import Notification
from pipeline.alarms.conditions import MOMENT
from pipeline.alarms.heartbeat_study import HeartbeatStudy
from pipeline.alarms.messages import OVER_SECONDS
from pipeline.alarms.watch import SiteWatch
from pipeline.config.alarm_tables import AlarmTable
from pipeline.errors import Transient
from pipeline.ledger import Ledger, destination_states, heartbeat_studies, nodes, told_alarms
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import node as node_table
from pipeline.operate.drain import forget
from pipeline.site.open_site import opened
from pipeline.site.settings import Settings

pytestmark = pytest.mark.programs
DOWN = "destination nowhere does not answer; nothing waits"


class Killed(BaseException):
    """Stand for the end of the process."""


@dataclass
class Node:
    """The watch of one node, and what its channels have taken; `ends` is how they answer."""

    name: str
    settings: Settings
    ledger: Ledger
    watch: SiteWatch
    told: list[Notification] = field(default_factory=list)
    ends: bool | BaseException = True

    def send(self, notification: Notification) -> bool:
        if isinstance(self.ends, BaseException):
            raise self.ends
        if self.ends:
            self.told.append(notification)
        return self.ends

    def look(self, seconds: float) -> list[str]:
        """Look so many seconds after the test began, and return the lines that were told."""
        before = len(self.told)
        self.watch.look(BEGAN + seconds, MONOTONIC + seconds)
        return [line for told in self.told[before:] for line in told.text.splitlines()]


BEGAN, MONOTONIC = time.time(), time.monotonic()


@contextmanager
def two_nodes(server: PostgresqlServer, folder: Path, **alarm: object) -> Iterator[tuple[Node, Node]]:
    """Yield two nodes with one ledger, whose only destination does not answer."""
    with ledger_place.on(server), ExitStack() as stack:
        found = []
        for name in ("a", "b"):
            settings = node_settings(folder / name, name, store=folder / "store", receivers=[])
            settings = settings.model_copy(update={"alarm": AlarmTable.model_validate(alarm)})
            site = stack.enter_context(opened(settings))
            one = Node(name, settings, site.ledger, SiteWatch(settings, site.ledger))
            one.watch._channels = one  # type: ignore[assignment]
            with site.ledger.transaction() as change:
                nodes.report(change, NodeReport(name, name, "1.0", [], 0, ""))
            found.append(one)
        down(found[0].ledger, is_down=True)
        yield found[0], found[1]


def down(ledger: Ledger, *, is_down: bool) -> None:
    with ledger.transaction() as change:
        since = 1.0 if is_down else None
        destination_states.change_row(change, "nowhere", down_since=since)


def test_what_all_nodes_find_one_of_them_tells_and_its_end(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        assert a.look(0) == b.look(10) == []
        assert b.look(MOMENT) == [DOWN]
        assert a.look(MOMENT + 10) == b.look(MOMENT + 30) == []
        assert a.look(MOMENT + 13 * 3600) == [f"still: {DOWN}"]
        assert b.look(MOMENT + 13 * 3600 + 10) == []
        down(a.ledger, is_down=False)
        late = MOMENT + 14 * 3600
        assert a.look(late) == b.look(late + 10) == []
        assert b.look(late + OVER_SECONDS + 10) == ["over: down:nowhere"]
        assert a.look(late + OVER_SECONDS + 20) == []


def test_when_the_node_that_has_claimed_an_alarm_dies_the_other_tells_it(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        a.look(0)
        a.ends = Killed()
        with pytest.raises(Killed):
            a.look(MOMENT)
        assert b.look(MOMENT + 1) == [], "the first may still be sending it"
        assert b.look(MOMENT + 119) == []
        assert b.look(MOMENT + 121) == [DOWN]
        assert b.look(MOMENT + 151) == []


def test_what_the_channels_of_one_node_do_not_take_the_other_tells_at_its_next_look(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        a.look(0)
        a.ends = False
        assert a.look(MOMENT) == []
        assert b.look(MOMENT + 1) == [DOWN]
        a.ends = True
        assert a.look(MOMENT + 300) == []


def test_each_node_tells_what_is_wrong_with_itself_by_its_name(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        for one in (a, b):
            site = one.settings.site.model_copy(update={"alarm_below": 1 << 60})
            one.watch._settings = one.settings.model_copy(update={"site": site})
        for one in (a, b):
            (line,) = one.look(0)
            assert line.startswith(f"{one.name}: ")
            assert line.endswith("are free in the spool")
            assert one.told[0].keys == (f"disk-low@{one.name}",)
            assert one.told[0].subject.startswith(f"storestow {one.name}: ")
        for one in (a, b):
            restarted = SiteWatch(one.watch._settings, one.ledger)
            restarted._channels = one  # type: ignore[assignment]
            one.watch = restarted
            assert one.look(30) == []
        with a.ledger.reading() as look:
            keys = {(alarm.key, alarm.node) for alarm in told_alarms.read(look) if alarm.told_at}
        assert keys == {("disk-low@a", "a"), ("disk-low@b", "b")}
        with a.ledger.transaction() as change:
            change.execute(update(node_table).where(node_table.c.name == "b").values(seen=1.0))
        forget(a.settings, a.ledger, "b")
        with a.ledger.reading() as look:
            assert {alarm.key for alarm in told_alarms.read(look) if alarm.told_at} == {"disk-low@a"}


def test_a_lost_node_that_still_looks_does_not_end_the_alarm_about_itself(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        down(a.ledger, is_down=False)
        with a.ledger.transaction() as change:
            nodes.leave(change, "b")
        for seconds in (0, 30, 60, 90):
            assert a.look(seconds) == b.look(seconds + 10) == []
        assert b.look(MOMENT + 1) == []
        (line,) = a.look(MOMENT + 2)
        assert line.startswith("node b has ended or cannot report")
        assert b.look(MOMENT + OVER_SECONDS + 60) == a.look(MOMENT + OVER_SECONDS + 90) == []


def test_a_ledger_that_cannot_be_written_is_told_by_each_node_and_nothing_else_meanwhile(
    postgresql_server, tmp_path, monkeypatch
):
    def cannot_be_written(*_args: object, **_more: object) -> None:
        raise Transient("the server is read-only")

    with two_nodes(postgresql_server, tmp_path) as (a, b):
        a.look(0)
        for one in (a, b):
            with monkeypatch.context() as broken:
                broken.setattr(one.ledger, "transaction", cannot_be_written)
                one.watch._next_sample = float("inf")
                words = "the ledger cannot be read or written: storestow check names the cause"
                assert one.look(MOMENT) == [f"{one.name}: {words}"]
        assert b.look(MOMENT + 30) == [DOWN]


def test_the_summary_of_the_day_is_sent_by_one_node(postgresql_server, tmp_path, monkeypatch):
    at = time.strftime("%H:%M", time.localtime(BEGAN + 3 * 3600))
    with two_nodes(postgresql_server, tmp_path, summary_at=at) as (a, b):
        for hours in range(50):
            a.look(hours * 3600.0)
            b.look(hours * 3600.0)
        assert [told.kind for told in (*a.told, *b.told)].count("summary") == 2
        reads = told_alarms.summary_at

        def other_is_quicker(connection: Connection) -> float | None:
            found = reads(connection)
            monkeypatch.setattr(told_alarms, "summary_at", reads)
            b.look(74 * 3600.0)
            return found

        monkeypatch.setattr(told_alarms, "summary_at", other_is_quicker)
        a.look(74 * 3600.0)
        assert [told.kind for told in a.told].count("summary") == 2
        assert [told.kind for told in b.told].count("summary") == 1


def test_each_node_sends_a_heartbeat_study_to_its_own_receiver(postgresql_server, tmp_path):
    with two_nodes(postgresql_server, tmp_path) as (a, b):
        receiver = {**RECEIVER, "port": free_port()}  # Nobody listens there.
        heartbeat = {"heartbeat": {"receiver": "modalities"}}
        for one in (a, b):
            settings = node_settings(tmp_path / one.name, one.name, store=tmp_path / "store", receivers=[receiver])
            settings = settings.model_copy(update={"alarm": AlarmTable.model_validate(heartbeat)})
            one.watch._heartbeat = HeartbeatStudy(settings, one.ledger)
            assert any(line.startswith(f"{one.name}: a heartbeat study") for line in one.look(0))
        with a.ledger.reading() as look:
            first, second = (heartbeat_studies.read(look, name) for name in ("a", "b"))
        assert first
        assert second
        assert first.study_instance_uid != second.study_instance_uid
