"""Alerts, dashboards and autoscaling ask for metrics that there are, and alerts fire when they should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import yaml

from services import telemetry
from tests.chart.conftest import CHART, ROOT, Render, program
from tests.chart.test_chart import EVERYTHING

TGI = {"tgi_queue_size", "tgi_batch_current_size"}
"""Gauges that TGI 3 exports."""
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
NAMES = [rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]]


def _exported() -> set[str]:
    """Names of all series that the services may export."""
    found = set(TGI)
    for metric in telemetry.REGISTRY.collect():
        match metric.type:
            case "counter":
                found.add(f"{metric.name}_total")
            case "histogram":
                found |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
            case _:
                found.add(metric.name)
    return found


def _asked(query: str) -> set[str]:
    return set(re.findall(r"\b(?:twin|tgi)_[a-z_]+\b(?=[{\[)]|$| )", query))


def test_dashboards_ask_for_what_is_exported() -> None:
    """Every query of every panel."""
    queries = [
        target["expr"]
        for file in (CHART / "files" / "dashboards").glob("*.json")
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(queries) >= 15
    for query in queries:
        assert _asked(query), query
        assert _asked(query) <= _exported(), query


def test_alerts_and_scaling_ask_for_what_is_exported(render: Render) -> None:
    """Every alert's expression, and every ScaledObject's query."""
    objects = render({**EVERYTHING, "tgi": {"enabled": True}})
    queries = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    scaled = [each for each in objects if each["kind"] == "ScaledObject"]
    assert len(scaled) == 5
    queries += [trigger["metadata"]["query"] for each in scaled for trigger in each["spec"]["triggers"]]
    for query in queries:
        assert _asked(query), query
        assert _asked(query) <= _exported(), query


def test_workers_scale_from_zero_by_what_the_store_says(render: Render) -> None:
    """Zero workers are allowed, and what brings the first one is told by who is always there."""
    for each in render(EVERYTHING):
        if each["kind"] == "ScaledObject" and each["metadata"]["name"].endswith("-worker"):
            assert each["spec"]["minReplicaCount"] == 0
            queries = " ".join(trigger["metadata"]["query"] for trigger in each["spec"]["triggers"])
            assert "twin_queue_age_seconds" in queries
            assert "twin_jobs_waiting" in queries


def test_each_alert_has_its_runbook_and_its_series(render: Render) -> None:
    """A page each in docs/runbooks, named in the rule; and a made-up series that it fires on."""
    pages = {each.stem for each in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == set(NAMES)
    tried = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())["tests"]
    fired = {each["alertname"] for test in tried for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fired == set(NAMES)
    (rule,) = [each for each in render(EVERYTHING) if each["kind"] == "PrometheusRule"]
    rendered = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    assert [one["expr"] for one in rendered] == [one["expr"] for group in ALERTS["groups"] for one in group["rules"]]
    for one in rendered:
        assert one["annotations"]["runbook_url"] == f"https://example.com/runbooks/{one['alert']}.md"


def test_alerts_fire_on_made_up_series(tmp_path: Path) -> None:
    """promtool: each fires on its series, and none on healthy ones."""
    promtool = program("prometheus").with_name("promtool")
    text = (
        (Path(__file__).parent / "alerts.yaml").read_text().replace("[RULES]", f"[{CHART / 'files' / 'alerts.yaml'}]")
    )
    (tmp_path / "tests.yaml").write_text(text)
    done = subprocess.run(
        [str(promtool), "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
