"""What an operator is given to watch with: alert rules, dashboard, document of the metrics."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.core.metrics import BREAKER_STATES, METRICS, REPLY_OUTCOMES, TEXT_OUTCOMES
from service.web.door.refusals import Counters

ROOT = Path(__file__).parent.parent
RULES = ROOT / "config" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "config" / "grafana" / "parley.json"
DOCUMENT = ROOT / "docs" / "metrics.md"

LABEL_VALUES: Mapping[str, set[str]] = {
    "parley_callbacks_total": {*Counters.__dataclass_fields__},
    "parley_texts_total": {*TEXT_OUTCOMES},
    "parley_replies_total": {*REPLY_OUTCOMES},
    "parley_breaker_processes": {*BREAKER_STATES},
}

MINUTES = 90
"""As long as the cases run: longer than every rule looks back."""

STEADY: Mapping[str, str] = {
    'up{job="parley"}': "1",
    "parley_processes": "2",
    "parley_processes_wanted": "2",
    "parley_redis_up": "1",
    "parley_instance_ready": "1",
    "parley_backfill_failing": "0",
    "parley_dead_letters": "3",
    'parley_callbacks_total{outcome="accepted"}': "0+60",
    'parley_callbacks_total{outcome="bad_signature"}': "0+1",
    'parley_callbacks_total{outcome="incomplete"}': "0",
    'parley_callbacks_total{outcome="unavailable"}': "7",
    'parley_texts_total{outcome="answered"}': "0+60",
    'parley_texts_total{outcome="dead_letter"}': "3",
    'parley_replies_total{outcome="dead_letter"}': "0",
    "parley_texts_recovered_total": "4",
    "parley_handler_failures_total": "0+1",
    "parley_handler_seconds_count": "0+60",
    "parley_leases_lost_total": "16",
    "parley_partitions_owned": "2",
    'parley_breaker_processes{state="open"}': "0",
    'parley_breaker_processes{state="paused"}': "0",
    'parley_inbox_messages{partition="0"}': "4",
    'parley_inbox_messages{partition="1"}': "0",
    'parley_inbox_oldest_seconds{partition="0"}': "2",
    'parley_outbox_oldest_seconds{partition="0"}': "30",
    'parley_acknowledgement_seconds_bucket{le="0.01"}': "0+60",
    'parley_acknowledgement_seconds_bucket{le="+Inf"}': "0+60",
    'parley_redis_round_trip_seconds_bucket{le="0.01"}': "0+90",
    'parley_redis_round_trip_seconds_bucket{le="+Inf"}': "0+90",
    'parley_send_seconds_bucket{le="0.25"}': "0+60",
    'parley_send_seconds_bucket{le="+Inf"}': "0+60",
}
"""A deployment that does well: a value that stays, or one that grows by so much a minute."""

NEVER = None
"""There is no such series."""

FIRES: list[tuple[str, Mapping[str, str | None]]] = [
    ("ParleyDown", {'up{job="parley"}': "0"}),
    ("ParleyAbsent", {'up{job="parley"}': NEVER}),
    ("ParleyProcessMissing", {"parley_processes": "1"}),
    ("ParleyRedisAway", {"parley_redis_up": "0"}),
    ("ParleyRedisSlow", {'parley_redis_round_trip_seconds_bucket{le="0.01"}': "0+10"}),
    ("ParleyRefusesTexts", {'parley_callbacks_total{outcome="unavailable"}': "0+1"}),
    ("ParleyRefusesTexts", {'parley_callbacks_total{outcome="busy"}': "0+1"}),
    ("ParleySignaturesRefused", {'parley_callbacks_total{outcome="bad_signature"}': "0+90"}),
    ("ParleyCallbacksMisfit", {'parley_callbacks_total{outcome="incomplete"}': "0+3"}),
    ("ParleyAcknowledgesSlowly", {'parley_acknowledgement_seconds_bucket{le="0.01"}': "0+10"}),
    ("ParleyTextsRecovered", {"parley_texts_recovered_total": "0+1"}),
    ("ParleyBackfillFailing", {"parley_backfill_failing": "1"}),
    ("ParleyTextsWait", {'parley_inbox_oldest_seconds{partition="0"}': "0+60"}),
    ("ParleyInboxFills", {'parley_inbox_messages{partition="1"}': "9000"}),
    ("ParleyHandlersFail", {"parley_handler_failures_total": "0+30"}),
    ("ParleyDeadLetters", {'parley_texts_total{outcome="dead_letter"}': "0+1"}),
    ("ParleyDeadLetters", {'parley_replies_total{outcome="dead_letter"}': "0+1"}),
    ("ParleyDeadLettersPileUp", {"parley_dead_letters": "1200"}),
    ("ParleyRepliesWait", {'parley_outbox_oldest_seconds{partition="0"}': "0+60"}),
    ("ParleyBreakerOpen", {'parley_breaker_processes{state="open"}': "1"}),
    ("ParleyThrottled", {'parley_breaker_processes{state="paused"}': "1"}),
    ("ParleySendsSlowly", {'parley_send_seconds_bucket{le="0.25"}': "0+10"}),
    ("ParleyInstanceNotReady", {"parley_instance_ready": "0"}),
    ("ParleyPartitionsUnowned", {"parley_partitions_owned": "1"}),
    ("ParleyPartitionsUnowned", {"parley_partitions_owned": NEVER}),
    ("ParleyLeasesFlap", {"parley_leases_lost_total": "0+1"}),
]
"""The alert, and what is otherwise than in `STEADY`."""

BUCKETS_ABOVE: Mapping[str, str] = {
    "parley_acknowledgement_seconds_bucket": "5",
    "parley_redis_round_trip_seconds_bucket": "1",
    "parley_send_seconds_bucket": "10",
}
"""A bound above which a quantile is too slow; without one a quantile is the last finite bound."""


def case_of(changes: Mapping[str, str | None], firing: list[str]) -> dict[str, Any]:
    """Make a case for promtool: series, and which alerts fire at the end."""
    series = {**STEADY, **changes}
    for name, bound in BUCKETS_ABOVE.items():
        series[f'{name}{{le="{bound}"}}'] = series[f'{name}{{le="+Inf"}}']
    return {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": f"{values}x{MINUTES}" if "+" in values else f"{values}+0x90"}
            for name, values in series.items()
            if values is not NEVER
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing
                ],
            }
        ],
    }


def run_cases(promtool: str, folder: Path, *cases: dict[str, Any]) -> str:
    """Let promtool judge; returns what it says, "" when all is as expected."""
    file = folder / "cases.yaml"
    # Every JSON document is YAML.
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": cases}), encoding="utf-8")
    judged = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    return "" if judged.returncode == 0 else judged.stdout + judged.stderr


def alerts() -> list[str]:
    """Name every alert."""
    return re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


def test_promtool_has_nothing_to_say_about_the_rules(promtool: str) -> None:
    """Prometheus would not start with them."""
    checked = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_nobody_is_woken_for_a_deployment_that_does_well(promtool: str, tmp_path: Path) -> None:
    """An alert that cries wolf is switched off before the day it is right."""
    assert run_cases(promtool, tmp_path, case_of({}, [])) == ""


@pytest.mark.parametrize(("alert", "changes"), FIRES, ids=str)
def test_an_alert_fires_for_its_reason_and_none_beside_it(
    promtool: str, tmp_path: Path, alert: str, changes: Mapping[str, str | None]
) -> None:
    """An operator would hear of it from a customer."""
    assert run_cases(promtool, tmp_path, case_of(changes, [alert])) == ""


def test_the_judge_sees_an_alert_that_does_not_fire(promtool: str, tmp_path: Path) -> None:
    """Otherwise the cases above pass whatever the rules say."""
    assert "ParleyDown" in run_cases(promtool, tmp_path, case_of({}, ["ParleyDown"]))
    silenced = case_of({'up{job="parley"}': "0"}, [])
    assert "ParleyDown" in run_cases(promtool, tmp_path, silenced)


def test_every_alert_has_a_case_and_says_what_to_do() -> None:
    """A rule that never fired in a test is a rule that may never fire."""
    assert {alert for alert, _ in FIRES} == set(alerts())
    text = RULES.read_text(encoding="utf-8")
    for rule in re.split(r"^ +- alert: ", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"severity: (critical|warning|info)\}$", rule, re.MULTILINE), rule
        assert re.search(r"summary: \".+\.\"$", rule, re.MULTILINE), rule
        described = rule.partition("description: >-")[2].split()
        assert len(described) > 15, rule


# --- names -----------------------------------------------------------------------------------


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel, those in collapsed rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> dict[str, list[str]]:
    """Collect the PromQL of the rules' file and of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    rules = [line for line in RULES.read_text(encoding="utf-8").splitlines() if "#" not in line]
    queries = [t["expr"] for panel in panels(dashboard) for t in panel.get("targets", [])]
    return {"alerts": ["\n".join(rules)], "dashboard": queries}


def sample_names() -> dict[str, str]:
    """Name every sample of every metric: sample -> metric."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {
        metric.name + suffix: metric.name
        for metric in METRICS.values()
        for suffix in suffixes.get(metric.kind, ("",))
    }


@pytest.mark.parametrize("place", ["alerts", "dashboard"])
def test_every_metric_and_label_named_there_exists(place: str) -> None:
    """A misspelt name is a rule that never fires, or a panel that is always empty.

    That a running service exposes exactly these is in `tests/flow/test_metrics.py`.
    """
    known = sample_names()
    for expression in expressions()[place]:
        for name, selector in re.findall(r"\b(parley_\w+)(?:\{([^}]*)\})?", expression):
            assert name in known, expression
            metric = METRICS[known[name]]
            for label, values in re.findall(r'(\w+)=~?"([^"$]*)"', selector):
                if label in {"instance", "job"}:
                    continue
                assert label == metric.label, expression
                assert set(values.split("|")) <= LABEL_VALUES[metric.name], expression


def test_the_dashboard_shows_every_metric_in_rows_without_overlaps() -> None:
    """What is counted and shown nowhere is looked for in an outage and not found."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    known = sample_names()
    shown = {
        known[name]
        for expression in expressions()["dashboard"]
        for name in re.findall(r"\bparley_\w+", expression)
    }
    assert shown == set(METRICS)
    every = list(panels(dashboard))
    assert [each["id"] for each in every] == list(range(1, len(every) + 1))
    assert every[0]["type"] == "row"
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or (panel["targets"] and panel["description"])


def test_every_metric_and_every_outcome_is_in_the_document() -> None:
    """An operator reads of a metric in a dashboard and finds nowhere what it means."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(parley_\w+)`(?: by `(\w+)`)? \| (\w+) \| (.+) \|$", text, re.MULTILINE
    )
    assert {name for name, *_ in rows} == set(METRICS)
    for name, label, kind, said in rows:
        metric = METRICS[name]
        assert (label, kind) == (metric.label, metric.kind), name
        assert said.startswith(metric.help), name
    words = set(re.findall(r"`(\w+)`", text))
    assert set().union(*LABEL_VALUES.values()) - set(BREAKER_STATES) <= words
