from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import Configuration
from pipeline.site.settings import load

SITE = '[site]\nspool = "/var/spool/storestow"\n'
RECEIVER = '[[receiver]]\nname = "modalities"\nae_title = "STORESTOW"\nport = 11112\n'


ASSOCIATION = RECEIVER + 'mode = "association"\n'


def loaded(tmp_path: Path, text: str):
    file = tmp_path / "site.toml"
    file.write_text(text)
    return load(file)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(Configuration) as error:
        loaded(tmp_path, text)
    return str(error.value)


def test_what_is_not_said_has_the_designed_default(tmp_path):
    settings = loaded(tmp_path, SITE + RECEIVER)
    assert settings.site.keep_originals == timedelta(days=7)
    assert settings.site.gather_at_most == timedelta(minutes=15)
    receiver = settings.receiver_named("modalities")
    assert (receiver.mode, receiver.quiet_seconds, receiver.max_pdu, receiver.coerce) == (
        "study",
        10,
        131072,
        True,
    )


def test_relative_paths_start_at_the_configuration_file(tmp_path):
    settings = loaded(tmp_path, SITE)
    assert settings.beside(Path("institution_mapping.json")) == tmp_path / "institution_mapping.json"
    assert settings.beside(Path("/etc/mapping.json")) == Path("/etc/mapping.json")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (SITE + 'keep_orignals = "7d"\n', ["site.keep_orignals: unknown key; did you mean keep_originals?"]),
        (SITE + RECEIVER + "prot = 1\n", ['receiver "modalities".prot: unknown key; did you mean port?']),
        (SITE + "[stie]\n", ["stie: unknown key; did you mean site?"]),
        (SITE + 'keep_originals = "seven"\n', ['"seven" is no duration', '"7d"']),
        ('[site]\nspool = "/var/my spool"\n', ["site.spool", "choose another folder"]),
        ('[site]\nspool = "spool"\n', ["site.spool", "absolute"]),
        (SITE + RECEIVER.replace("11112", "0"), ['receiver "modalities".port']),
        (SITE + RECEIVER + RECEIVER, ["two [[receiver]] tables are named modalities"]),
        (
            SITE + RECEIVER + 'to = ["archvie"]\n',
            ["receiver modalities: to names archvie", "destinations are none"],
        ),
        (SITE + RECEIVER.replace("STORESTOW", "MORE THAN SIXTEEN LETTERS"), ["an AE title is 1 to 16"]),
        (SITE + RECEIVER.replace("STORESTOW", "BACK\\\\SLASH"), ["no backslash"]),
        (
            SITE + '[[destination]]\nname = "a"\nkind = "stow"\nurl = "http://h/studies"\nconections = 2\n',
            ['destination "a".conections: unknown key; did you mean connections?'],
        ),
        (SITE + '[[destination]]\nname = "a"\nkind = "stwo"\n', ['destination "a"', "'stwo' is none of"]),
        (
            SITE + '[[destination]]\nname = "a"\nkind = "null"\nencode = "jp2"\n',
            ['encode = "jp2" is none of htj2k, j2k, none'],
        ),
        (
            SITE + RECEIVER + 'max_associations = 4\nidle_timeout = "1m"\n',
            [
                'receiver "modalities"',
                "idle_timeout, max_associations: storescp in study mode",
                'mode = "association"',
            ],
        ),
        (SITE + ASSOCIATION + 'allow_peers = ["10.0.0.1/8"]\n', ["has host bits set", "192.0.2.0/24"]),
        (SITE + ASSOCIATION + "allow_peers = []\n", ['receiver "modalities".allow_peers', "at least 1 item"]),
        (SITE + ASSOCIATION + 'allow_calling_ae_titles = [""]\n', ["write AE titles, or shell patterns"]),
        (SITE + ASSOCIATION + 'idle_timeout = "0s"\n', ["idle_timeout", "from 1s to 24h"]),
        (
            SITE + RECEIVER + 'tls = { cert = "c", key = "k" }\n',
            ["name the ca", "require_client_certificate = false"],
        ),
        (SITE + 'alarm_below = "1 GiB"\nrefuse_below = "2 GiB"\n', ["the alarm comes first"]),
        (SITE + 'refuse_below = "much"\n', ["site.refuse_below", "is no size"]),
        ("[site\n", ["is not TOML"]),
        ("", ["site: Field required"]),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_remedy(tmp_path, text, sentences):
    message = refused(tmp_path, text)
    assert str(tmp_path / "site.toml") in message
    for sentence in sentences:
        assert sentence in message


def test_all_mistakes_are_told_at_once(tmp_path):
    assert len(refused(tmp_path, '[site]\nspool = "x"\nworkers = -1\n').splitlines()) == 2


def test_without_a_configuration_the_places_looked_at_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.site.settings.DEFAULT_FILES", (Path("site.toml"), tmp_path / "etc.toml"))
    with pytest.raises(Configuration, match="--site FILE"):
        load()


def test_who_may_come_in_is_read_as_networks_and_patterns(tmp_path):
    keys = 'allow_peers = ["192.0.2.0/24", "2001:db8::7"]\nallow_calling_ae_titles = ["CT*"]\n'
    receiver = loaded(tmp_path, SITE + ASSOCIATION + keys).receiver[0]
    assert [str(network) for network in receiver.allow_peers] == ["192.0.2.0/24", "2001:db8::7/128"]
    assert receiver.allow_calling_ae_titles == ("CT*",)
    assert receiver.allow_called_ae_titles is None


def test_free_space_is_watched_unless_a_site_says_never(tmp_path):
    assert loaded(tmp_path, SITE).site.refuse_below == 1 << 30
    assert loaded(tmp_path, SITE + 'alarm_below = "0"\nrefuse_below = 0\n').site.refuse_below == 0


ON_A_SERVER = 'ledger = "postgresql://storestow@db/storestow"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SITE + '[cluster]\nstore = "/mnt/store"\n', "several nodes need one ledger on a server"),
        (SITE + ON_A_SERVER + '[cluster]\nstore = "mnt"\n', "must be an absolute path"),
        (SITE + ON_A_SERVER + "[cluster]\n", "cluster.store"),
        (SITE + ON_A_SERVER + '[cluster]\nstore = "/mnt/store"\nnode = "a@b"\n', "a node's name is"),
        (SITE + ON_A_SERVER + '[cluster]\nstore = "/mnt/store"\nlost_after = "5s"\n', "lost_after"),
        (
            SITE + ON_A_SERVER + '[cluster]\nstore = "/mnt/store"\nnodes = "a"\n',
            "unknown key; did you mean node?",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(tmp_path, text, sentence):
    assert sentence in refused(tmp_path, text)


def test_a_store_is_no_part_of_the_spool_and_holds_what_is_admitted(tmp_path):
    spool = loaded(tmp_path, SITE).site.spool
    below = f'[cluster]\nstore = "{spool}/store"\n'
    assert "must not contain each other" in refused(tmp_path, SITE + ON_A_SERVER + below)
    settings = loaded(tmp_path, SITE + ON_A_SERVER + '[cluster]\nstore = "/mnt/store"\nnode = "a"\n')
    assert settings.spool.settled == Path("/mnt/store/settled")
    assert settings.spool.incoming == spool / "incoming"
    assert settings.cluster.name == "a"
    assert not loaded(tmp_path, SITE).spool.has_store
