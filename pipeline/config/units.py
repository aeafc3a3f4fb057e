"""Durations and sizes as people write them in TOML: "7d", "300s", "8 MiB"."""

import re
from datetime import timedelta

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]i?[bB]|[bB])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_duration(text: object) -> timedelta:
    """Return the duration of a text such as "7d": a number and one of ms s m h d w.

    Otherwise raises ValueError.
    """
    if isinstance(text, timedelta):
        return text
    match = DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f'"{text}" is no duration; write a number and a unit: "30s", "15m", "24h", "7d"')
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError as error:
        raise ValueError(f'"{text}" is longer than this program can count') from error


def parse_size(text: object) -> int:
    """Return the bytes of a text such as "8 MiB"; otherwise raises ValueError, which lists the units."""
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = SIZE.fullmatch(str(text).strip())
    if not match or not (size := int(float(match[1]) * _BYTES[match[2].lower()])):
        raise ValueError(f'"{text}" is no size; write a number and a unit: "512 kB", "8 MiB", "1 GiB"')
    return size
