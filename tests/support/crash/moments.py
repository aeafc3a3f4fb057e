"""Words for the crash points that tests kill at, or let something happen at, in particular.

A point's name says which function asked for which effect (pipeline/crash_points.py). Here, and only here, a test's
word for a moment is tied to such a name: who renames a function mends one line. A moment that no run reaches any
more fails the tests that kill at it.
"""

MOMENTS = {
    # receiving
    "association-opened": "after fsync in receiving.association_process._make_durable",
    "association-ended": "before admit in receiving.sweep.take",
    "sweep-admitting": "before admit in receiving.sweep.take",
    "sweep-admitted": "after admit in receiving.sweep.take",
    # admission and identification
    "admit-synced": "before commit in line.admit._enter",
    "admitted": "after commit in line.admit._enter",
    "intake-entering": "before commit in line.identify_arrival._enter",
    "taken-in": "after commit in line.identify_arrival._enter",
    # preparing
    "instance-prepared": "after rename in line.prepare._made",
    "consigning": "before commit in line.consign._consign_part",
    "consigned": "after commit in line.consign._consign_part",
    # delivering
    "claimed": "after commit in line.deliver.deliver",
    "deliver-attempt": "after commit in line.deliver.attempt",
    "deliver-made": "after commit in line.deliver.made",
    "deliver-receipt": "before commit in line.deliver._record",
    "guard-answered": "after request in dicomweb.qido._asked",
    "guard-passed": "before commit in line.deliver.attempt",
    "filing-copied": "before link in spool.store_file.file_away",
    "filing-named": "after link in spool.store_file.file_away",
    "pinned-first": "after commit in line.delivery_items._pinned_first",
    "attempted": "before commit in line.verify._conclude",
    "concluded": "after commit in line.verify._conclude",
    # discs
    "disc-made": "after fsync in disc.make.make._publish",
    "disc-remembered": "after commit in line.known_discs.remember",
    "disc-result": "after unlink in disc.make.study_disc._appears",
    "disc-offered": "after rename in disc.make.study_disc.deliver",
    "disc-noted": "after commit in line.known_discs._note_offered",
    "disc-seen": "before commit in line.known_discs._note_offered",
    "disc-unseen": "before commit in line.known_discs.end_unfinished",
    # settling and keeping
    "settle-account": "after write in line.settle._move_to_settled",
    "settle-renamed": "after rename in line.settle._move_to_settled",
    "settling": "before commit in line.settle.settle",
    "settled": "after commit in line.settle.settle",
    "quarantine-renamed": "before commit in line.settle.set_aside",
    "account-renewed": "after write in line.settle.renew_account",
    "aged-out": "before unlink in line.settle.delete",
    "let-go": "after unlink in line.settle.delete",
    # a start
    "ledger-creating": "before commit in ledger.create",
    "ledger-copied": "after rename in ledger.sqlite.prepare_migration",
    "ledger-set-aside": "after rename in ledger.sqlite._set_aside",
    "correcting": "before commit in line.reconcile._set_state",
    "corrected": "after commit in line.reconcile._set_state",
    "reconciled": "before commit in line.reconcile.reconcile",
    "unreadable-account-set-aside": "after rename in line.reconcile._restore",
    # a person
    "retrying": "before commit in operate.retry.retry",
    "retried": "after commit in operate.retry.retry",
    "accepting": "before commit in operate.accept.accept",
    "accepted": "after commit in operate.accept.accept",
    "rerouting": "before commit in operate.reroute.reroute",
    "giving-up": "before commit in operate.reroute.discard",
    "release-forgotten": "after commit in line.quarantine._release_arrival",
    "release-renamed": "after rename in line.quarantine._release_arrival",
    "release-reopened": "after rename in line.quarantine._release_instances",
    "released": "after commit in line.quarantine._release_instances",
    "other-patient-accepted": "after commit in line.other_patient._accept",
    "other-patient-reopened": "after rename in line.other_patient._release",
    "other-patient-released": "after commit in line.other_patient._release",
    "discard-noted": "after commit in line.quarantine._note_discarded",
    "discarding": "after unlink in spool.spool.remove",
    # orders
    "order-placing": "before commit in orders.place",
    "retrieval-sent": "before commit in orders.retrieve_study.move",
    "retrieval-finished": "after commit in orders.retrieve_study.move",
    "order-consigning": "before commit in orders.consign_order.open_one_delivery",
    "order-consigned": "after commit in orders.consign_order.open_one_delivery",
    "order-ended": "after commit in orders.finish.end",
    "result-cleared": "after commit in orders.cleanup._clear",
    "send-placed": "after commit in sending.send.send",
    "send-copied": "before admit in sending.send._hand_in",
    "send-admitted": "after admit in sending.send._hand_in",
}


def point_of(moment: str) -> str:
    """Return the name of the crash point a test means; the name of a point stands for itself."""
    return MOMENTS.get(moment, moment)
