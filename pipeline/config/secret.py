"""Read secrets from the environment or a private file, at the moment of use."""

import os
import stat
from pathlib import Path

from pipeline.errors import Configuration


def read(key: str, variable: str | None, file: Path | None) -> str:
    """Return the secret `key`; raises Configuration, which names the variable or file, never its content."""
    secret = _from_file(key, file) if file else _from_environment(key, variable or "")
    if not secret:
        raise Configuration(f"{key}_{'file' if file else 'env'}: {file or variable} is empty")
    if not secret.isprintable():
        raise Configuration(f"{key}: {file or variable} holds a control character or a line break")
    return secret


def private(key: str, file: Path) -> Path:
    """Return `file`; raises Configuration unless it exists and only its owner can read it."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise Configuration(f"{key}: {file}: cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Configuration(f"{key}: {file} can be read by others; run chmod 600 {file}")
    return file


def _from_environment(key: str, variable: str) -> str:
    if variable not in os.environ:
        raise Configuration(f"{key}_env: the environment variable {variable} is not set")
    return os.environ[variable]


def _from_file(key: str, file: Path) -> str:
    try:
        return private(f"{key}_file", file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Configuration(f"{key}_file: {file}: cannot be read as text") from error
