"""Pictures draw each point once, where it belongs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.report import pictures

Make = Callable[..., dict[str, Any]]


def test_one_titled_dot_per_node_and_hollow_means_too_few(make_summary: Make) -> None:
    summary = make_summary()
    svg = pictures.node_map(summary) or ""
    titles = re.findall(r"<title>(0x[0-9a-f]{40}): ([\d,]+) requests?, (\d+) failed", svg)
    assert sorted(titles) == sorted((n["node"], f"{n['requests']:,}", str(n["failed"])) for n in summary["nodes"])
    hollow = [dot for dot in svg.split("<title>")[1:] if "fill: none; stroke: var(--" in dot.split("</g>")[0]]
    assert len(hollow) == sum(n["n_too_small"] for n in summary["nodes"])


def test_a_node_without_an_answer_is_not_drawn(make_summary: Make) -> None:
    summary = make_summary()
    summary["nodes"][3]["ttft_ms_p50"] = None
    assert summary["nodes"][3]["node"] not in (pictures.node_map(summary) or "")


def test_names_in_pictures_survive_every_letter(make_summary: Make) -> None:
    summary = make_summary()
    for node, name in zip(
        summary["nodes"], ["节点", "$x_{", "#2166c9", ' id="patch_1"', "<b>&", "\x00\x1b"], strict=False
    ):
        node["node"], node["n_too_small"] = name, False
    svg = pictures.node_map(summary) or ""
    assert "<b>" not in svg
    assert "<title>#2166c9: " in svg
    assert "<title> id=&quot;patch_1&quot;: " in svg


@pytest.mark.parametrize("seconds", [1, 2, 600, 601, 3600])
def test_a_long_series_is_thinned_without_hiding_a_bad_second(seconds: int) -> None:
    worst = seconds // 2
    series = [
        {"t_s": float(t), "planned": 10, "sent": t % 2 * 20, "e2e_ms_p95": 9000.0 if t == worst else 100.0}
        for t in range(seconds)
    ]
    thinned = pictures.bins({"series": series})
    assert len(thinned) <= pictures.BINS_SHOWN_MAX
    assert {b["planned"] for b in thinned} == {10.0}
    assert max(b["e2e_ms_p95"] for b in thinned) == 9000.0
    assert [b["t_s"] for b in thinned] == [
        float(t) for t in range(0, seconds, pictures.rows_per_bin({"series": series}))
    ]


def test_a_lone_value_between_gaps_is_marked() -> None:
    nan = float("nan")
    assert pictures._alone([1.0, nan, 2.0, nan, 3.0, 4.0, nan, 5.0]) == [0, 2, 7]


def test_all_colours_are_variables_so_that_dark_and_paper_work(make_summary: Make) -> None:
    for draw in pictures.PICTURES.values():
        svg = draw(make_summary()) or ""
        assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
        assert "var(--blue)" in svg or "var(--violet)" in svg


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [0.0, 4.0], [0.001, 90_000.0]])
def test_extreme_values_can_be_drawn(make_summary: Make, values: list[float]) -> None:
    points = [[v, (i + 1) / len(values)] for i, v in enumerate(values)]
    series = [{"t_s": float(i), "planned": 1, "ttft_ms_p50": v, "ttft_ms_p95": v} for i, v in enumerate(values)]
    nodes = [{"node": f"n{i}", "requests": 0, "ttft_ms_p50": v, "reputation": 100.0} for i, v in enumerate(values)]
    summary = make_summary(distributions={"ttft_ms_service": points}, series=series, nodes=nodes)
    for draw in pictures.PICTURES.values():
        assert (draw(summary) or "").startswith("<svg")


def test_the_map_has_a_latency_axis_with_and_without_unknown_reputations(make_summary: Make) -> None:
    for unknown in (True, False):
        nodes = [
            {**n, "reputation": None if unknown and i < 3 else 90.0 + i / 5}
            for i, n in enumerate(make_summary()["nodes"])
        ]
        svg = pictures.node_map(make_summary(nodes=nodes)) or ""
        assert (">unknown<" in svg) is unknown
        assert len(re.findall(r">[\d.]+ m?s<", svg)) >= 3  # ticks of the latency axis
