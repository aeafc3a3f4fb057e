"""Whose instances count for orders: by address where it is known, by the calling AE title where it is not."""

import socket
import tomllib

import pytest
from pydantic import ValidationError
from support.sites import placed_orders
from support.sites.placed_orders import settings_with_pacs

from pipeline.config import numeric_addresses
from pipeline.config.numeric_addresses import addresses_of, numeric
from pipeline.config.order_tables import PacsTable, SenderTable
from pipeline.line.senders import Sender, Senders

NODE = {"address": "10.0.0.9", "ae_title": "NODE"}


def senders(*others: dict[str, str], host: str = "10.0.0.1", address_decides: bool = True) -> Senders:
    table = {"ae_title": "ABPACS", "host": host, "port": 1, "calling_ae_title": "US", "receiver": "cdrecord"}
    return Senders(PacsTable.model_validate({**table, "senders": others}), address_decides)


@pytest.mark.parametrize(
    ("ae_title", "address", "counts"),
    [
        ("ANY", "10.0.0.1", True),
        ("ABPACS", "10.0.0.2", False),
        ("NODE", "10.0.0.9", True),
        ("ANY", "10.0.0.9", False),
        ("NODE", "10.0.0.1", True),
        ("ABPACS", None, False),
    ],
)
def test_where_the_address_is_known_it_decides_and_the_ae_title_where_an_entry_has_one(ae_title, address, counts):
    assert senders(NODE).include(Sender(ae_title, address)) is counts


@pytest.mark.parametrize(
    ("ae_title", "counts"), [("ABPACS", True), ("NODE", True), ("ANY", False), ("", False), ("abpacs", False)]
)
def test_where_no_address_is_known_the_ae_title_decides(ae_title, counts):
    assert senders(NODE, address_decides=False).include(Sender(ae_title, None)) is counts


def test_an_address_is_one_however_it_is_written():
    assert numeric("::ffff:10.0.0.1") == "10.0.0.1"
    assert numeric("FE80::0001%eth0") == "fe80::1"
    assert senders(host="::ffff:10.0.0.1").include(Sender("ANY", "10.0.0.1"))
    assert senders(host="fd00:0::5").include(Sender("ANY", "fd00::5"))


def test_every_address_of_a_host_counts_and_a_name_service_that_fails_takes_none_away(monkeypatch):
    told = [(socket.AF_INET, 1, 6, "", (one, 0)) for one in ("10.0.0.1", "10.0.0.2")]
    answers = [told, OSError("the name service is down"), told[:1]]

    def getaddrinfo(*_: object, **__: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(numeric_addresses, "_known", {})
    both = frozenset({"10.0.0.1", "10.0.0.2"})
    assert addresses_of("pacs.example.org") == both
    assert addresses_of("pacs.example.org") == both, "asked once a minute"
    monkeypatch.setattr(numeric_addresses, "KEPT_SECONDS", 0.0)
    assert addresses_of("pacs.example.org") == both
    assert addresses_of("pacs.example.org") == {"10.0.0.1"}


def test_a_host_nobody_knows_lets_nobody_in(monkeypatch):
    def getaddrinfo(*_: object, **__: object) -> object:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not senders(host="nowhere.example.org").include(Sender("ABPACS", "10.0.0.1"))


@pytest.mark.parametrize("address_decides", [True, False])
def test_the_line_to_paste_names_who_is_named_already_and_the_other_whatever_it_is_called(address_decides):
    line = senders(NODE, address_decides=address_decides).line_with(Sender('A"B] #', "10.0.0.7"))
    where = {"address": "10.0.0.7"} if address_decides else {}
    assert tomllib.loads(line) == {"senders": [NODE, {**where, "ae_title": 'A"B] #'}]}


def test_an_entry_names_somebody():
    with pytest.raises(ValidationError, match="name an address"):
        SenderTable()


@pytest.mark.parametrize(
    ("mode", "entry", "remedy"),
    [
        ("association", {"ae_title": "NODE"}, "write its address, too"),
        ("study", {"address": "10.0.0.9"}, "write the calling AE title"),
        ("association", {"address": "10.0.0.9"}, None),
        ("study", {"ae_title": "NODE"}, None),
        ("study", NODE, None),
    ],
)
def test_an_entry_that_names_nobody_in_the_receivers_mode_is_refused(tmp_path, monkeypatch, mode, entry, remedy):
    monkeypatch.setitem(placed_orders.PACS, "senders", [entry])
    monkeypatch.setitem(placed_orders.CDRECORD, "mode", mode)
    if remedy is None:
        assert settings_with_pacs(tmp_path).pacs.senders == (SenderTable(**entry),)
    else:
        with pytest.raises(ValidationError, match=remedy):
            settings_with_pacs(tmp_path)
