"""The meaning of A-ASSOCIATE-RJ and A-ABORT (PS3.8 9.3.4, 9.3.8): how a peer refuses a whole association."""

from pipeline.errors import PeerUnavailable, Permanent, StorestowError

PERMANENT = 1  # A value of result, PS3.8 table 9-21; the other, 2, is transient.
_SOURCES = {1: "its application", 2: "its association service", 3: "its presentation service"}
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "it does not know our AE title; check calling_ae_title, and what is registered there",
    (1, 7): "it does not go by that AE title; check ae_title",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}  # Keys are (source, reason), PS3.8 table 9-21.
_ABORTS = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}  # Reasons of the service-provider, PS3.8 table 9-26.


def error_of(peer: str, result: int, source: int, reason: int) -> StorestowError:
    """Return the error for a rejected association: permanent is final, transient and unknown are tried again."""
    why = _REASONS.get((source, reason), f"reason {reason} of {_SOURCES.get(source, f'source {source}')}")
    if result == PERMANENT:
        return Permanent(f"{peer} rejects the association for good: {why}")
    return PeerUnavailable(f"{peer} rejects the association for now: {why}")


def abort_words(source: int, reason: int) -> str:
    """Return who aborted and why, in words."""
    if source == 2:
        return f"aborted the association: {_ABORTS.get(reason, f'reason {reason}')}"
    return "aborted the association, and gives no reason"
