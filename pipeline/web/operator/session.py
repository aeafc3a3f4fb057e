"""Sessions: a signed cookie with the typed name, valid for eight hours, and the token of the session's forms.

The server keeps no sessions. The cookie is signed with a key of the spool and the operator key: another operator
key ends every session.
"""

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.spool.key_file import key_in
from pipeline.web.page_forms import KEY_FILE

COOKIE = "storestow_operator"
SECONDS = 8 * 3600
LONGEST_NAME = 60  # characters
TRIES, TRIES_SECONDS = 10, 60.0  # Wrong keys within these seconds; further ones are not compared.


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one person; `name` is the typed name, `token` is in every form of the pages."""

    name: str
    token: str


class Sessions:
    """Make and read the cookies of one site."""

    def __init__(self, spool: Path, operator_key: str) -> None:
        self._spool, self._operator_key = spool, operator_key
        self._wrong: list[float] = []  # by the monotonic clock

    def may_try(self, monotonic: float) -> bool:
        """Say whether a key is compared now: a guesser has ten tries a minute."""
        self._wrong = [at for at in self._wrong if monotonic - at < TRIES_SECONDS]
        return len(self._wrong) < TRIES

    def note_wrong(self, monotonic: float) -> None:
        """Count a wrong key."""
        self._wrong.append(monotonic)

    def cookie_of(self, name: str, now: float | None = None) -> str:
        """Return the value of a new cookie; raises what `key_in` raises."""
        at = int(time.time() if now is None else now)
        about = f"{at}.{secrets.token_hex(16)}.{base64.urlsafe_b64encode(name.encode()).decode()}"
        return f"{about}.{self._signed(f'session {about}')}"

    def read(self, cookie: str, now: float | None = None) -> Session | None:
        """Return the session of a cookie, None if it is not ours or too old; raises what `key_in` raises."""
        about, _, signature = cookie.rpartition(".")
        if not cookie.isascii() or not hmac.compare_digest(self._signed(f"session {about}"), signature):
            return None
        at, _, name = about.split(".")
        age = (time.time() if now is None else now) - int(at)
        if not 0 <= age <= SECONDS:
            return None
        return Session(base64.urlsafe_b64decode(name).decode(), self._signed(f"token {about}"))

    def _signed(self, text: str) -> str:
        key = key_in(self._spool / KEY_FILE) + hashlib.sha256(self._operator_key.encode()).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def parse_name(text: str) -> str | None:
    """Return a typed name with single blanks, None if it is invalid."""
    name = " ".join(text.split())
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() else None
