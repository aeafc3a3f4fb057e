"""The reason a person gives for a decision: kept in the ledger, never in a log line."""

from pipeline.errors import Usage

SHORTEST, LONGEST = 3, 200  # Characters.


def reason_of(text: str, what: str) -> str:
    """Return `text` with single blanks; raises Usage, which says `what` to write, if its length is wrong."""
    said = " ".join(text.split())
    if not SHORTEST <= len(said) <= LONGEST:
        raise Usage(f"--reason needs {SHORTEST} to {LONGEST} characters: {what}")
    return said
