"""What a person answers to `storestow init` becomes a site.toml that says just that."""

import io
import tomllib

import pytest

from pipeline.commands.init import asked, asker, kinds_in
from pipeline.commands.site_draft import PeerAddress, SiteDraft, mapping_json, peer_address, site_toml
from pipeline.errors import Usage


class Person:
    """Answers questions that hold a word; Enter to the others."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.questions = answers, []

    def __call__(self, question, default, read):
        self.questions.append(question)
        return read(next((answer for word, answer in self.answers.items() if word in question), default))


def test_who_archives_is_asked_for_the_archive_and_for_nothing_of_orders():
    person = Person(archive="http://archive/studies", title="GATE", port="104")
    draft = asked(SiteDraft("/spool"), {"archive"}, person)
    assert len(person.questions) == 3
    table = tomllib.loads(site_toml(draft))
    assert table["receiver"][0] | {"ae_title": "GATE", "port": 104, "to": ["archive"]} == table["receiver"][0]
    assert table["destination"][0]["url"] == "http://archive/studies"
    assert table.keys() == {"site", "receiver", "destination"}


def test_a_site_of_orders_receives_from_its_pacs_alone():
    person = Person(**{"PACS to ask": "PACS@10.0.0.1:104", "publisher": "", "HIS": "http://his"})
    draft = asked(SiteDraft("/spool", discs="/discs"), {"orders"}, person)
    table = tomllib.loads(site_toml(draft))
    assert [receiver["name"] for receiver in table["receiver"]] == ["orders"] == [table["pacs"]["receiver"]]
    assert (table["shim"]["download"], "print" in table["shim"]) == ("disc", False)
    assert table["patients"] == {"kind": "api", "url": "http://his"}
    assert "institution_mapping" not in table["site"]


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_costs_none_of_the_others(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("GATE\nport 104\n11104 \n\nhttp://archive/studies\n"))
    draft = asked(SiteDraft("/spool"), {"archive"}, asker(is_asked=True))
    assert (draft.ae_title, draft.port, draft.archive_url) == ("GATE", 11104, "http://archive/studies")
    told = capsys.readouterr().out
    assert "'port 104' is no port; write 1 to 65535" in told
    assert "--archive-url is needed" in told


def test_orders_that_could_go_nowhere_are_refused():
    with pytest.raises(Usage, match="orders need somewhere to go"):
        asked(SiteDraft("/spool"), {"orders"}, Person(**{"PACS to ask": "PACS@h:104"}))


@pytest.mark.parametrize("text", ["", "PACS", "PACS@h", "PACS@h:0", "PACS@h:70000", "@h:1", "PACS@h h:1"])
def test_a_peer_that_is_not_written_as_one_is_refused(text):
    with pytest.raises(Usage, match="AE@HOST:PORT"):
        peer_address(text)


def test_peers_are_read_with_names_addresses_and_blanks_in_the_ae_title():
    assert peer_address("MY PACS@pacs.example.org:104") == PeerAddress("MY PACS", "pacs.example.org", 104)
    assert peer_address("PACS@[fd00::5]:104") == PeerAddress("PACS", "fd00::5", 104)


def test_what_a_person_types_stays_within_its_text():
    url = 'http://a/"\n[pacs]\nx = "\\'
    table = tomllib.loads(site_toml(SiteDraft('/spool"', archive_url=url)))
    assert (table["site"]["spool"], table["destination"][0]["url"]) == ('/spool"', url)
    assert mapping_json({'CT"1': "Á"}) == '{\n  "CT\\"1": "Á"\n}\n'


def test_kinds_are_read_with_commas_and_an_unknown_one_is_told_those_there_are():
    assert kinds_in("archive, orders") == {"archive", "orders"}
    with pytest.raises(Usage, match=r"relay \(receive"):
        kinds_in("archive,burn")
