"""What is opened with a site."""

import json
import logging
from contextlib import nullcontext

import pytest
from support.sites.line_site import node_settings, settings_for

from pipeline.config.institutions import Institutions, read
from pipeline.errors import Transient
from pipeline.ledger import SPOOL, Ledger
from pipeline.site import open_site
from pipeline.site.open_site import mapping_of


def test_the_log_says_how_many_institutions_the_mapping_has(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="storestow")
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"CT1": "By AE title", "192.0.2.17": "By address", "modalities": "By receiver"}))
    settings = settings_for(tmp_path)
    assert mapping_of(settings) == Institutions()
    site = settings.site.model_copy(update={"institution_mapping": path})
    assert mapping_of(settings.model_copy(update={"site": site})) == read(path)
    assert [record.message for record in caplog.records] == [f"mapping-loaded file={path} count=3"]


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_store_that_another_node_has_begun_meanwhile_is_known(tmp_path, monkeypatch, is_mounted):
    settings = node_settings(tmp_path, "b", ledger="postgresql://nobody@127.0.0.1:1/none")

    def noted(_ledger, _key):
        if is_mounted:
            (settings.spool.store / SPOOL).write_text("1")
        return "1"

    monkeypatch.setattr(Ledger, "require_tables", lambda _ledger: None)
    monkeypatch.setattr(Ledger, "noted", noted)
    with nullcontext() if is_mounted else pytest.raises(Transient, match="is it mounted"):
        open_site._require_known_store(settings)
