"""Wait longer for a block to be taken than for a connection: urllib3 has one time-out for both."""

from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

SEND_SECONDS = 60.0  # for one block; an archive that writes to a slow disk stops reading for a while


class _Patient:
    sock: Any

    def endheaders(self, *arguments: Any, **options: Any) -> None:
        super().endheaders(*arguments, **options)  # type: ignore[misc]  # mixed into a connection
        self.sock.settimeout(SEND_SECONDS)


class _PatientConnection(_Patient, HTTPConnection):
    pass


class _PatientTlsConnection(_Patient, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _PatientConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PatientTlsConnection


class PatientAdapter(HTTPAdapter):
    """Make connections that give the archive time to read."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make pools of patient connections."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
