"""What a receiver does about folders that stay and peers that say nothing, decided from looks alone."""

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.receiving.stuck_folders import (
    AssociationTimeouts,
    Idleness,
    Signature,
    StuckFolders,
    TimeoutStep,
    back_off,
)

ONE, TWO = Signature(1, 100, 1), Signature(2, 200, 2)


def test_a_folder_that_changes_is_left_alone():
    watch = StuckFolders(patience=15)
    for second in range(0, 100, 5):
        folder = Signature(second, 100 * second, second)
        assert watch.look(second, {"S_1": folder}, connected=True) is TimeoutStep.WAIT


def test_a_folder_unchanged_for_the_patience_is_flushed_once_and_then_costs_storescp_its_life():
    watch = StuckFolders(patience=15)
    steps = [watch.look(second, {"S_1": ONE}, connected=False) for second in (0, 5, 10, 14.9, 15, 20)]
    assert steps == [
        TimeoutStep.WAIT,
        TimeoutStep.WAIT,
        TimeoutStep.WAIT,
        TimeoutStep.WAIT,
        TimeoutStep.FLUSH,
        TimeoutStep.RESTART,
    ]


def test_storescp_has_a_moment_to_answer_the_flush():
    watch = StuckFolders(patience=15, answer=1)
    assert [watch.look(s, {"S_1": ONE}, connected=False) for s in (0, 15, 15.5, 16)] == [
        TimeoutStep.WAIT,
        TimeoutStep.FLUSH,
        TimeoutStep.WAIT,
        TimeoutStep.RESTART,
    ]


def test_storescp_lives_on_while_anybody_is_connected():
    watch = StuckFolders(patience=15)
    steps = [watch.look(second, {"S_1": ONE}, connected=True) for second in (0, 15, 20, 500)]
    assert steps == [TimeoutStep.WAIT, TimeoutStep.FLUSH, TimeoutStep.WAIT, TimeoutStep.WAIT]
    assert watch.look(505, {"S_1": ONE}, connected=False) is TimeoutStep.RESTART


def test_a_flush_that_worked_is_forgotten():
    watch = StuckFolders(patience=15)
    watch.look(0, {"S_1": ONE}, connected=False)
    assert watch.look(15, {"S_1": ONE}, connected=False) is TimeoutStep.FLUSH
    assert watch.look(20, {}, connected=False) is TimeoutStep.WAIT
    assert watch.look(25, {"S_1": ONE}, connected=False) is TimeoutStep.WAIT
    assert watch.look(30, {"S_1": ONE}, connected=False) is TimeoutStep.WAIT


def test_an_instance_after_the_flush_starts_the_patience_anew():
    watch = StuckFolders(patience=15)
    watch.look(0, {"S_1": ONE}, connected=False)
    watch.look(15, {"S_1": ONE}, connected=False)
    assert watch.look(20, {"S_1": TWO}, connected=False) is TimeoutStep.WAIT
    assert watch.look(34, {"S_1": TWO}, connected=False) is TimeoutStep.WAIT
    assert watch.look(35, {"S_1": TWO}, connected=False) is TimeoutStep.FLUSH


def test_the_strongest_step_of_all_folders_is_taken():
    watch = StuckFolders(patience=15)
    watch.look(0, {"S_1": ONE}, connected=False)
    watch.look(10, {"S_1": ONE, "S_2": ONE}, connected=False)
    assert watch.look(15, {"S_1": ONE, "S_2": ONE}, connected=False) is TimeoutStep.FLUSH
    assert watch.look(20, {"S_1": ONE, "S_2": ONE}, connected=False) is TimeoutStep.RESTART


def test_a_silent_peer_is_idle_after_the_limit():
    idleness = Idleness(limit=300)
    assert [idleness.look(second, "same", 1.0) for second in (0, 100, 299, 300)] == [False, False, False, True]


def test_what_is_received_is_progress():
    idleness = Idleness(limit=300)
    assert not any(idleness.look(second, second, 1.0) for second in range(0, 3000, 100))


def test_a_large_object_on_its_way_is_progress_and_a_keep_alive_is_not():
    busy, bored = Idleness(limit=300), Idleness(limit=300)
    assert not any(busy.look(second, "same", second / 100) for second in range(0, 3000, 100))
    assert any(bored.look(second, "same", second / 100_000) for second in range(0, 3000, 100))


def test_nobody_connected_is_not_idle():
    idleness = Idleness(limit=300)
    assert not any(idleness.look(second, "same", 1.0, connected=False) for second in range(0, 3000, 100))
    assert not idleness.look(3100, "same", 1.0)
    assert idleness.look(3400, "same", 1.0)


def test_the_back_off_grows_and_is_bounded():
    waits = [back_off(failures) for failures in range(12)]
    assert waits[:6] == [1, 1, 2, 4, 8, 16]
    assert waits == sorted(waits)
    assert waits[-1] == 30


def test_a_silent_peer_is_cut_off_sooner_while_others_wait_for_it():
    idleness = Idleness(300, 30)
    assert not idleness.look(0, ONE, 0.0, waiting=True)
    assert not idleness.look(29, ONE, 0.0, waiting=True)
    assert not idleness.look(31, ONE, 0.0, waiting=False)
    assert idleness.look(32, ONE, 0.0, waiting=True)
    assert idleness.silence(32) == 32


def test_a_peer_that_brings_something_is_not_silent_however_many_wait():
    idleness = Idleness(300, 30)
    for second in range(0, 200, 20):
        assert not idleness.look(second, Signature(second, second, second), 0.0, waiting=True)


def limits(**keys: object) -> AssociationTimeouts:
    return AssociationTimeouts(
        ReceiverTable(name="r", ae_title="A", port=1, mode="association", **keys), began=100.0
    )


def test_an_association_that_brings_nothing_ends_after_its_idle_timeout_and_that_is_told_once():
    one = limits(idle_timeout="60s")
    assert one.look(100, ONE, 0.0) is None
    assert one.look(159, ONE, 0.0) is None
    assert one.look(160, ONE, 0.0) == "brought nothing for 60 s (idle_timeout)"
    assert one.look(161, ONE, 0.0) is None


def test_an_association_ends_after_its_whole_time_whatever_it_brings():
    one = limits(association_timeout="10s")
    told = [one.look(100 + second, Signature(second, second, second), 0.0) for second in range(12)]
    assert told == [None] * 10 + ["was open for 10 s (association_timeout)", None]


def test_a_look_is_never_later_than_the_end():
    assert limits().next_look(100) == 5
    assert limits(association_timeout="7s").next_look(104) == 3
    assert limits(association_timeout="7s").next_look(110) == 0
    assert limits(idle_timeout="1s").next_look(100) == 1
