"""[[fleet]] is read once into what cannot be wrong."""

import pytest
from support.sites.line_site import settings_for

from pipeline.errors import Configuration
from pipeline.site.settings import load

NORTH = 'name = "north"\nurl = "https://north.example/pacs/"\nkey_file = "/etc/north.key"\n'


def loaded(folder, *tables: str):
    file = folder / "site.toml"
    file.write_text(f'[site]\nspool = "{folder}/spool"\n' + "".join(f"[[fleet]]\n{table}" for table in tables))
    return load(file)


def test_a_site_is_named_asked_and_linked_to(tmp_path):
    (north,) = loaded(tmp_path, NORTH).fleet
    assert (north.url, north.operator_page) == (
        "https://north.example/pacs",
        "https://north.example/pacs/operator",
    )
    (north,) = loaded(tmp_path, NORTH + 'page = "https://people.example/op"\n').fleet
    assert north.operator_page == "https://people.example/op"
    assert settings_for(tmp_path).fleet == ()


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([NORTH, NORTH], "two [[fleet]] tables are named north"),
        ([NORTH.replace("https:", "javascript:")], "write an address as https://"),
        ([NORTH.replace("https://", "https://me:secret@")], "without user"),
        ([NORTH.replace("pacs/", "?a=b")], "without user, question mark"),
        ([NORTH + 'page = "javascript:alert(1)"\n'], "write an address as https://"),
        ([NORTH + 'key_env = "KEY"\n'], "one of key_env and key_file"),
        ([NORTH.replace("key_file", "# key_file")], "one of key_env and key_file"),
        ([NORTH + 'answer_timeout = "10m"\n'], "answer_timeout"),
        ([NORTH + 'key_fiel = "x"\n'], "did you mean key_file?"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path, tables, words):
    with pytest.raises(Configuration) as raised:
        loaded(tmp_path, *tables)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)
