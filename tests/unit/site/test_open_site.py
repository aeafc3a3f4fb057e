"""What is opened with a site."""

import json
import logging

from support.sites.line_site import settings_for

from pipeline.config.institutions import Institutions, read
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
