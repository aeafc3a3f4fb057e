"""The tables of the newest ledger; `migrations` converts older ones.

Times are seconds since the epoch; no column holds a patient's name or ID. `instance.changes` is the one column
that may hold values a rule replaced: it is for `trace`, never for a log. All tables stand in this one
file: they refer to each other, and a migration is compared with the file as a whole.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    MetaData,
    Table,
    text,
)

from pipeline.ledger.column_types import Integer64, String, Text, Texts, Tuples, Values, Word
from pipeline.ledger.scope import OUTSIDE_THE_LINE, ScopeColumn
from pipeline.model import (
    ArrivalState,
    DeliveryState,
    InstanceCode,
    InstanceState,
    LeftOutCode,
    OrderError,
    OrderStage,
    OrderState,
    ReceiptState,
    RetrievalState,
)

METADATA = MetaData()

note = Table("note", METADATA, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

heartbeat = Table(
    "heartbeat",
    METADATA,
    Column("name", String, primary_key=True),  # By this name the worker has its claims.
    Column("started_at", Float, nullable=False),
    Column("beat_at", Float, nullable=False),
)

node = Table(
    "node",  # The machines whose workers use this ledger: ledger.nodes.
    METADATA,
    Column("name", String, primary_key=True),
    Column("worker", String, nullable=False),  # By this name it has its claims.
    Column("version", String, nullable=False),
    Column("seen", Float, nullable=False),  # The last report, by the database's clock.
    Column("draining", Boolean, nullable=False, default=False),
    Column("receivers", Texts, nullable=False),  # Names of the receivers that were up then.
    Column("at_the_door", Integer64, nullable=False),  # Folders that were not admitted then.
    Column("door", Tuples, nullable=False),  # Studies in them: receiver, Study Instance UID, files.
    Column("site_hash", String, nullable=False),
    Column("lost_at", Float),  # When another worker found that it reports no more.
)

arrival = Table(
    "arrival",
    METADATA,
    Column("name", String, primary_key=True),
    Column("receiver", String, nullable=False),
    Column("state", Word(ArrivalState), nullable=False, index=True),
    Column("reason", Text),
    Column("admitted_at", Float, nullable=False, index=True),
    Column("newest_file_at", Float, nullable=False),
    Column("settled_at", Float),
    Column("gone_at", Float),  # When its originals were deleted; the rows stay for `trace`.
    Column("calling_ae_title", String),
    Column("called_ae_title", String),
    Column("peer", String),
    Column("hidden_files", Integer64, nullable=False, default=0),
    Column("empty_files", Integer64, nullable=False, default=0),
    Index(
        "arrivals_here",
        "name",
        "state",
        sqlite_where=text("gone_at IS NULL"),
        postgresql_where=text("gone_at IS NULL"),
    ),
)

instance = Table(
    "instance",
    METADATA,
    Column("id", Integer64, primary_key=True),
    Column("arrival", ForeignKey("arrival.name"), nullable=False, index=True),
    Column("file", String, nullable=False),
    Column("state", Word(InstanceState), nullable=False, index=True),
    Column("reason", Text),
    Column("code", Word(InstanceCode)),  # Code of the reason, if there is one.
    Column("scope", ScopeColumn, nullable=False),
    Column("study_instance_uid", String, index=True),
    Column("series_instance_uid", String),
    Column("sop_instance_uid", String, index=True),
    Column("sop_class_uid", String),
    Column("modality", String),
    Column("accession_number", String, index=True),
    Column("calling_ae_title", String, nullable=False),
    Column("called_ae_title", String, nullable=False),
    Column("institution", String),
    Column("size", Integer64, nullable=False),
    Column("received_sha256", String, nullable=False),  # Hash of the file.
    Column("data_set_sha256", String),  # Hash without file meta information, which names the sender.
    Column("transfer_syntax_received", String),
    Column("transfer_syntax_sent", String),
    Column("changes", JSON),
    Column("pixel_length", Integer64),
    Column("pixel_md5", String),
    Column("pixel_sha256", String),
    Column("encoded_length", Integer64),
    Column("frames", Integer64),  # Number of Frames; null if a release before this column took it in.
    Column("body_part", String),  # Body Part Examined, as received: a route may test it.
    # Destination and encoding, decided once where a study is consigned in several parts: line.route.
    Column("routed_to", Tuples),
    Column("consigned", Boolean, nullable=False, default=False),
    Column("discarded_at", Float),  # When a person deleted the file; the row stays for `trace`.
    Index(
        "one_of_each",
        "scope",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("state IN ('received', 'passed', 'encoded')"),
        postgresql_where=text("state IN ('received', 'passed', 'encoded')"),
    ),
    Index(
        "outside_the_line",
        "scope",
        sqlite_where=text(OUTSIDE_THE_LINE),
        postgresql_where=text(OUTSIDE_THE_LINE),
    ),
    Index(
        "discarded_instances",
        "arrival",
        sqlite_where=text("discarded_at IS NOT NULL"),
        postgresql_where=text("discarded_at IS NOT NULL"),
    ),
    Index("to_consign", "consigned", sqlite_where=text("NOT consigned"), postgresql_where=text("NOT consigned")),
)

study_patient = Table(
    "study_patient",
    METADATA,
    Column("scope", ScopeColumn, primary_key=True),
    Column("study_instance_uid", String, primary_key=True),
    # This and the next three are keyed hashes, empty for no value.
    Column("identifier", String, primary_key=True),
    Column("issuer", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("birth_date", String, nullable=False),
    Column("is_first", Boolean, nullable=False),
    Column("arrival", String, nullable=False),  # The arrival that brought it, and whose account has it.
    Column("reason", Text),  # A person's reason for accepting it as of this study.
    Column("at", Float, nullable=False),
    Index(
        "one_first_patient",
        "scope",
        "study_instance_uid",
        unique=True,
        sqlite_where=text("is_first"),
        postgresql_where=text("is_first"),
    ),
)

study_claim = Table(
    "study_claim",  # A study that is being prepared, and by whom: ledger.claims.
    METADATA,
    Column("receiver", String, primary_key=True),
    Column("study_instance_uid", String, primary_key=True),
    Column("claim", String, nullable=False),
    Column("worker", String, nullable=False),
)

delivery = Table(
    "delivery",
    METADATA,
    Column("id", Integer64, primary_key=True),
    Column("destination", String, nullable=False),
    Column("receiver", String, nullable=False),
    Column("study_instance_uid", String, nullable=False, index=True),
    Column("state", Word(DeliveryState), nullable=False, index=True),
    Column("reason", Text),
    Column("held", Boolean, nullable=False, default=False),  # It waits for `retry`, whatever the time.
    Column("guard_released", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("first_attempt_at", Float),
    Column("attempts", Integer64, nullable=False, default=0),
    Column("finished_at", Float),
    Column("order_id", ForeignKey("orders.id"), index=True),  # Null for a delivery of the line, without order.
    # It asks for instances delivered before and received again.
    Column("requested", Boolean, nullable=False, default=False),
    Column("made_path", String),  # The file made for a person to fetch.
    Column("made_size", Integer64),
    Column("growing", Boolean, nullable=False, default=False),  # Later instances of its study are being prepared.
    # The token of the attempt that is under way, and who attempts it, or did last: ledger.claims.
    Column("claim", String),
    Column("worker", String),
    Index(
        "made_files",
        "order_id",
        sqlite_where=text("made_path IS NOT NULL"),
        postgresql_where=text("made_path IS NOT NULL"),
    ),
    Index("growing_deliveries", "growing", sqlite_where=text("growing"), postgresql_where=text("growing")),
)

attempt = Table(
    "attempt",  # Every attempt of a delivery: ledger.attempts.
    METADATA,
    Column("delivery", ForeignKey("delivery.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer64, primary_key=True, autoincrement=False),  # From 1.
    Column("began_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("state", Word(DeliveryState), nullable=False),  # State of the delivery after it.
    Column("reason", Text),
    Column("node", String, nullable=False),  # Host name of the machine.
    Column("instances", Integer64),
    Column("arrived", Integer64),
    Column("verified", Integer64),
    Column("codes", String),  # What was answered: one code, or the lowest and the highest.
)

receipt = Table(
    "receipt",
    METADATA,
    Column("delivery", ForeignKey("delivery.id"), primary_key=True),
    Column("instance", ForeignKey("instance.id"), primary_key=True, index=True),
    Column("state", Word(ReceiptState), nullable=False),
    Column("code", String, nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    Column("verified", Boolean, nullable=False, default=False),
    Column("attempted", Boolean, nullable=False, default=False),
    Column("path", String, nullable=False),  # Relative to the spool.
    Column("sha256", String, nullable=False),  # Pinned before the first attempt: retries send that very file.
    Column("size", Integer64, nullable=False),
    Column("transfer_syntax_uid", String, nullable=False),
    Column("encoding", String, nullable=False),
    Column("at", Float),
    Column("asked_by", ForeignKey("instance.id"), index=True),  # For a request: the received duplicate.
    Column("left_out", Word(LeftOutCode)),  # Why the made file lists it without holding it.
    Index(
        "not_compared",
        "instance",
        sqlite_where=text("state = 'present' AND NOT verified"),
        postgresql_where=text("state = 'present' AND NOT verified"),
    ),
)

disc = Table(
    "disc",  # A disc of a study on the line; a disc that was never visible keeps no row for long.
    METADATA,
    Column("id", String, primary_key=True),
    Column("delivery", ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer64, nullable=False),  # Number among the discs of the study at the destination, from 1.
    Column("name", String, nullable=False),  # Name of the file in the destination's folder.
    Column("volume_id", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("offered_at", Float),  # Null: it is unknown whether it was visible.
)

on_disc = Table(
    "on_disc",
    METADATA,
    Column("disc", ForeignKey("disc.id", ondelete="CASCADE"), primary_key=True),
    Column("delivery", ForeignKey("delivery.id", ondelete="CASCADE"), primary_key=True),
    Column("instance", ForeignKey("instance.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("left_out", Text),  # Why it is not on the disc, although it is of the study.
    Column("left_out_code", Word(LeftOutCode)),  # The same, for programs.
)

destination = Table(
    "destination",
    METADATA,
    Column("name", String, primary_key=True),
    Column("paused", Boolean, nullable=False, default=False),
    Column("down_since", Float),
    Column("try_at", Float),  # While it is down: when one delivery tries whether it answers again.
    Column("reason", Text),
    Column("paused_by", String),  # The name a person typed.
    Column("paused_at", Float),
    Column("trial", Integer64),  # While it is down: the delivery that tried last whether it answers again.
)

orders = Table(
    "orders",
    METADATA,
    Column("id", Integer64, primary_key=True),
    # Verb, accession numbers, modalities, destination, container.
    Column("key", String, nullable=False, index=True),
    Column("verb", String, nullable=False),
    Column("accessions", Texts, nullable=False),
    Column("modalities", Texts, nullable=False),
    Column("destination", String, nullable=False),
    Column("container", String, nullable=False, default=""),
    Column("missing_allowed", Boolean, nullable=False, default=False),
    Column("incomplete_allowed", Boolean, nullable=False, default=False),
    Column("again", Boolean, nullable=False, default=False),
    Column("state", Word(OrderState), nullable=False, index=True),
    Column("stage", Word(OrderStage), nullable=False),
    Column("error_kind", Word(OrderError)),
    Column("detail", Text),
    Column("missing", Texts, nullable=False, default=list),  # Accession numbers that the PACS does not know.
    Column("sent_before", Integer64, nullable=False, default=0),  # Sent by an earlier order, so not sent again.
    Column("receiver", String),  # For `send`: the receiver whose rules apply; null: send unchanged.
    Column("files", Integer64, nullable=False, default=0),  # For `send`.
    Column("several_patients", Boolean, nullable=False, default=False),  # For `send`: a person allowed them.
    Column(
        "identity", JSON(none_as_null=True)
    ),  # The sources' statements about the patient, without values: orders.compare_sources.
    Column("identity_allowed", Text),  # A person's reason for accepting a difference between sources.
    Column("created_at", Float, nullable=False),
    Column("last_progress_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("cleared_at", Float),  # When its made file was deleted.
    Index(
        "one_open",
        "key",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

retrieval = Table(
    "retrieval",
    METADATA,
    Column("id", Integer64, primary_key=True),
    Column("study_instance_uid", String, nullable=False, index=True),
    Column("modalities", Values, nullable=False, default=()),  # none: all of the study
    Column("state", Word(RetrievalState), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),  # The last final response of the PACS, or the end of waiting for one.
    Column("ended_at", Float),
    Column("last_progress_at", Float, nullable=False),
    Column("attempts", Integer64, nullable=False, default=0),
    Column("status", String),  # Status of the final response, as 0xB000; null if none came.
    Column("completed", Integer64, nullable=False, default=0),  # Sub-operations, as the PACS counts them.
    Column("failed", Integer64, nullable=False, default=0),
    Column("warned", Integer64, nullable=False, default=0),
    Column("remaining", Integer64, nullable=False, default=0),
    # Number of its instances, by the final response to a C-MOVE of the whole study.
    Column("announced", Integer64),
    Column("arrived", Integer64, nullable=False, default=0),  # Seen arriving so far, before they are taken in.
    Column("error_kind", Word(OrderError)),
    Column("detail", Text),
    # The token of the C-MOVE or C-GET that is under way, and who does it, or did last: ledger.claims.
    Column("claim", String),
    Column("worker", String),
)

order_study = Table(
    "order_study",
    METADATA,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("study_instance_uid", String, primary_key=True),
    Column("accession_number", Values, key="accession_numbers", nullable=False),
    Column("retrieval", ForeignKey("retrieval.id"), index=True),
    Column("found_at", Float, nullable=False),
    Column("series", Tuples, nullable=False),  # [[Series Instance UID, Modality, instances or null], ...]
    Column("counted", Integer64),  # The PACS's count, null if it does not say.
    Column("asked", Boolean, nullable=False, default=False),  # Whether it has been asked for the list.
    Column("listed", Tuples),  # [[Series, SOP Instance UID], ...] if it lists them, otherwise null.
)

retrieved = Table(
    "retrieved",
    METADATA,
    Column("retrieval", ForeignKey("retrieval.id"), primary_key=True),
    Column("instance", ForeignKey("instance.id"), primary_key=True, index=True),
)

tally = Table(
    "tally",  # What happened in each hour: ledger.tallies.
    METADATA,
    # Hours since the epoch; 0 for everything older than the hours kept.
    Column("hour", Integer64, primary_key=True, autoincrement=False),
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),  # Name of a receiver or destination.
    Column("detail", String, primary_key=True),
    Column("times", BigInteger, nullable=False),
    Column("instances", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

sample = Table(
    "sample",  # Measurements every few minutes: ledger.samples.
    METADATA,
    Column("at", Float, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Float, nullable=False),
)

told_alarm = Table(
    "told_alarm",
    METADATA,
    Column("key", String, primary_key=True),
    Column("since", Float, nullable=False),
    Column("told_at", Float, nullable=False),  # 0: nobody has been told yet.
    Column("ended_at", Float),
    Column("node", String),  # The node of a cluster that it is about, and which alone tells it; null: the site.
    Column("claimed_until", Float),  # Until then the node that has claimed it may be sending it.
)

act = Table(
    "act",  # What a person did on the operator's page.
    METADATA,
    Column("id", Integer64, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("by", String, nullable=False),  # The name a person typed.
    Column("what", String, nullable=False),
    Column("subject", String, nullable=False, index=True),
    Column("reason", Text),
)
