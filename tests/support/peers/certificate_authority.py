"""Make an authority, certificates it signs, and one it does not, with the openssl program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.machine.dicom_programs import program


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, PEM files."""

    cert: Path
    key: Path


class Authority:
    """Sign certificates below `folder`; `cert` is what others must trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._self = Identity(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl("req", "-x509", *_new_key(self._self, name), "-days", "2", "-out", self._self.cert)
        self._self.key.chmod(0o600)

    @property
    def cert(self) -> Path:
        return self._self.cert

    def identity(self, name: str, *, names: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> Identity:
        """Sign a certificate for these subject alternative names; `days` below 0 makes one that has expired."""
        made = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl("req", *_new_key(made, name), "-out", request)
        signer = ("-CA", self._self.cert, "-CAkey", self._self.key, "-CAcreateserial", "-days", str(days))
        _openssl("x509", "-req", "-in", request, *signer, "-extfile", extensions, "-out", made.cert)
        made.key.chmod(0o600)
        return made


def _new_key(identity: Identity, name: str) -> tuple[str | Path, ...]:
    return ("-newkey", "rsa:2048", "-noenc", "-keyout", identity.key, "-subj", f"/CN={name}")


def _openssl(*words: str | Path) -> None:
    subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True)
