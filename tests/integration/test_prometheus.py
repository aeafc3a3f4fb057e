"""A real Prometheus scrapes the shim with our rules loaded; what rules and dashboard ask for is there."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import requests
from support.machine.dicom_programs import free_port, program, running, wait_until
from support.sites.shim_site import running_shim

from pipeline.operate.measurements import Measurements
from pipeline.web.metrics import families_of

pytestmark = pytest.mark.programs

MONITORING = Path(__file__).resolve().parents[2] / "monitoring"
RULES, DASHBOARD = MONITORING / "alerts.yml", MONITORING / "grafana.json"
KEY = "for-monitoring-alone"
NAMED = re.compile(r"\bstorestow_[a-z_]+")


def offered() -> set[str]:
    """The names of all samples a scrape may hold."""
    nothing = Measurements(0, [], {}, {}, {}, 0, 0, None, None, None, {}, [], 0, 0, 0, 0, 0)
    names = {"storestow_ledger_readable"}
    for family in families_of(nothing):
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + ending for ending in endings}
    return names


def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rules found" in done.stdout


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_asked_for_is_offered(file: Path) -> None:
    named = set(NAMED.findall(file.read_text()))
    assert named
    assert named <= offered()


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "schemaVersion", "templating", "time", "panels"} <= board.keys()
    variables = {variable["name"] for variable in board["templating"]["list"]}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["type"] in {"stat", "timeseries", "table"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
        assert {
            name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])
        } <= variables
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"storestow:query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    argv = [program("promtool"), "check", "rules", tmp_path / "rules.yml"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout


@pytest.mark.parametrize(
    ("alert", "changes"),
    [
        ("StorestowDeliveryRefused", 'storestow_failures_total{kind="delivery-refused",where="archive"}'),
        ("StorestowQuarantine", "storestow_quarantined_arrivals"),
        ("StorestowQuarantine", 'storestow_quarantined_instances{code="conflict"}'),
        ("StorestowHeartbeatStudyMissed", "storestow_heartbeat_study_missed"),
    ],
)
def test_a_rule_fires_at_the_first_failure_of_a_new_site(tmp_path: Path, alert: str, changes: str) -> None:
    """What a new site offers is scraped for half an hour, then one of its values becomes 1."""
    fresh = Measurements(
        0, [], {}, {}, {}, 0, 0, None, None, None, {"modalities": True}, ["archive"], 0, 0, 0, 0, 0
    )
    series = {}
    for family in families_of(fresh):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            series[f"{sample.name}{{{labels}}}" if labels else sample.name] = f"{sample.value:g}x29 "
    assert changes in series
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    case = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values + ("1x60" if name == changes else values)}
                    for name, values in series.items()
                ],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": "29m", "exp_samples": []},
                    {"expr": firing, "eval_time": "50m", "exp_samples": [{"labels": "{}", "value": 1}]},
                ],
            }
        ],
    }
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    (tmp_path / "case.yml").write_text(json.dumps(case))
    argv = [program("promtool"), "test", "rules", tmp_path / "case.yml"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_fires_in_a_real_prometheus(tmp_path, monkeypatch) -> None:
    port = free_port()
    rules = re.sub(r"for: \w+", "for: 0s", RULES.read_text())
    (tmp_path / "rules.yml").write_text(rules)
    with running_shim(tmp_path, monkeypatch, shim={"metrics_key": KEY}) as shim:
        (tmp_path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: storestow
    authorization: {{credentials: {KEY}}}
    static_configs: [{{targets: ["{shim.url.removeprefix("http://")}"]}}]
""")
        options = (f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb")
        address = f"127.0.0.1:{port}"
        argv = [program("prometheus"), *options, f"--web.listen-address={address}"]
        with running(argv, log=tmp_path / "prometheus.log", port=port):

            def firing() -> set[str]:
                answer = requests.get(f"http://{address}/api/v1/alerts", timeout=10)
                alerts = answer.json()["data"]["alerts"] if answer.ok else []
                return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

            wait_until(lambda: "StorestowReceiverDown" in firing(), seconds=60, what="the alert")
            assert "StorestowUnreachable" not in firing()
            query = {"query": "storestow_build_info"}
            answer = requests.get(f"http://{address}/api/v1/query", params=query, timeout=10).json()
    assert answer["data"]["result"][0]["metric"]["job"] == "storestow"
    assert time.time() - float(answer["data"]["result"][0]["value"][0]) < 120
