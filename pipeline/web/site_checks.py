"""What `storestow check` reports about [shim] and [patients], at every call."""

from collections.abc import Iterator
from typing import Literal

from pipeline.errors import Configuration
from pipeline.site.settings import Settings
from pipeline.web.api_key import VARIABLE, ApiKeys
from pipeline.web.order_request import cannot_serve, names_none
from pipeline.web.our_hosts import proposed
from pipeline.web.serve import is_loopback, require_key_or_loopback
from pipeline.web.shim_site import opened

SHORTEST_KEY = 16  # Characters; a shorter key can be guessed.


def looked_at(settings: Settings) -> Iterator[tuple[Literal["ok", "note", "error"], str]]:
    """Yield findings about [shim] and [patients], each a level and a sentence."""
    shim = settings.shim
    try:
        require_key_or_loopback(settings)
        keyring = opened(settings).keyring
        is_local = is_loopback(shim.host)
    except Configuration as error:
        yield "error", str(error)
        return
    yield from _of_the_keys(settings, keyring, is_local=is_local)
    if not shim.hosts:
        yield (
            "note",
            (
                "hosts is not set: a page of any site can have its name point here and read what it asks for (DNS "
                f"rebinding); list the names users and programs write: {proposed(shim)}"
            ),
        )
    if settings.pacs is None:
        yield "note", "there is no [pacs]: every link answers 501"
    for key, named in settings.link_destinations.items():
        if not named:
            yield "note", f"{names_none(key, settings)}: {key} links answer 501"
        elif not shim.destinations[key]:
            yield "note", f"{key} is not set: {key} links mean {named[0]}, the only destination of its kind"
        for words in filter(None, (cannot_serve(key, name, settings) for name in named)):
            yield "error", f"{words}: this link answers 501"
    yield "ok", f"{shim.host} port {shim.port}, patients from {settings.patients.kind}"


def _of_the_keys(settings: Settings, keyring: ApiKeys, *, is_local: bool) -> Iterator[tuple[Literal["note"], str]]:
    key, host, port = keyring.key, settings.shim.host, settings.shim.port
    if not key and not is_local:
        yield "note", f"public_without_key: whoever reaches {host} port {port} may have every study"
    elif not key:
        yield "note", f"no key ({VARIABLE}, api_key): every user and program of this machine may have every study"
    for name, one in (("key", key), ("operator_key", keyring.operator_key)):
        if 0 < len(one) < SHORTEST_KEY:
            few = len(one)
            yield "note", f"the {name} has {few} characters; one of {SHORTEST_KEY} or more cannot be guessed"
