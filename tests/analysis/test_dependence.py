"""Does choice depend on what is asked: closed forms, false alarms at their rate, planted dependence found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from played import DEFAULT, play

from loadtest.analysis.checks import check_run
from loadtest.analysis.dependence import BY_HOUR, BY_PROMPT, BY_WORKER, Drawn, table_of
from loadtest.analysis.evidence import Evidence

from .oracles import draws_needed

NODES = tuple(f"n{i}" for i in range(8))


def drawn(
    seed: int, tasks: int, size: int, bins: int = 3, *, uneven: float = 0.0, lean: float = 0.0, nodes: int = 8
) -> Drawn:
    """`uneven` favours the first nodes for everybody; with `lean` tasks of bin 0 go to the first node so often."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, bins, tasks)
    shares = np.exp(-uneven * np.arange(nodes))
    taken = np.zeros((tasks, nodes))
    for row in range(tasks):
        chosen = rng.choice(nodes, size, replace=False, p=shares / shares.sum())
        if of[row] == 0 and rng.random() < lean and 0 not in chosen:
            chosen[0] = 0
        taken[row, chosen] = 1
    return Drawn(NODES[:nodes], taken, of.astype(np.int64))


def test_one_node_a_task_is_pearson_s_chi_square() -> None:
    each = drawn(1, 400, 1)
    found = table_of([each], 3)
    assert found is not None
    observed = np.array([[each.taken[each.bins == b, i].sum() for b in range(3)] for i in range(8)])
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / 400
    assert found.observed.tolist() == observed.tolist()
    assert found.expected == pytest.approx(expected)
    pearson = float(((observed - expected) ** 2 / expected).sum())
    assert found.statistic == pytest.approx(pearson * 399 / 400)
    assert found.freedom == 7 * 2


@pytest.mark.parametrize(("size", "uneven"), [(1, 0.0), (1, 0.4), (3, 0.0), (3, 0.4)])
def test_a_biased_choice_that_does_not_look_is_no_finding(size: int, uneven: float) -> None:
    """False alarms come at their rate whatever the nodes' shares are and however many a task takes."""
    p_values = []
    for seed in range(250):
        parts = [drawn(1000 * k + seed, 60, size, uneven=uneven, nodes=5 + k) for k in range(3)]
        found = table_of(parts, 3)
        assert found is not None
        p_values.append(found.p_value)
    assert sum(p < 0.05 for p in p_values) <= 25  # binomial(250, 0.05): more than 25 once in 1,000
    assert 0.42 < float(np.mean(p_values)) < 0.58


@pytest.mark.parametrize("size", [1, 2])
def test_dependence_is_found_and_named(size: int) -> None:
    found = table_of([drawn(5, 600, size, lean=0.5)], 3)
    assert found is not None and found.p_value < 1e-6
    worst = np.unravel_index(np.argmax(found.observed - found.expected), found.observed.shape)
    assert found.names[int(worst[0])] == "n0" and worst[1] == 0
    assert found.effect > found.smallest


def test_power_is_that_of_the_chi_square_test() -> None:
    found = table_of([drawn(1, 400, 1)], 3)
    assert found is not None
    assert draws_needed(found.smallest, found.freedom, 0.01) == pytest.approx(400, abs=1)


def test_nodes_of_a_few_tasks_are_counted_together() -> None:
    each = drawn(2, 90, 1, uneven=0.6)
    found = table_of([each], 3)
    assert found is not None and found.names[-1] == "the others" and 2 <= len(found.names) < 8
    assert found.observed.sum() == 90
    assert table_of([drawn(2, 12, 1)], 3) is None
    one_bin = Drawn(NODES, drawn(2, 90, 1).taken, np.zeros(90, dtype=np.int64))
    assert table_of([one_bin], 3) is None and table_of([], 3) is None


# In virtual time.

SHORT = replace(DEFAULT, seconds=900.0, settle_s=30.0)


def test_long_prompts_that_go_to_few_nodes_are_found(tmp_path: Path) -> None:
    findings = {f.check: f for f in check_run(Evidence.of(play(tmp_path, 2, ("long-prompts-apart=0.5",), SHORT)))}
    found = findings[BY_PROMPT]
    assert found.verdict == "found" and "depends on the prompt length" in found.text
    assert found.effect is not None and found.smallest_effect is not None and found.effect > found.smallest_effect
    assert findings[BY_HOUR].verdict == findings[BY_WORKER].verdict == "cannot tell"
    assert findings[BY_WORKER].missing == "tasks of another worker"


def test_a_shuffled_network_is_consistent_and_says_what_would_have_been_seen(tmp_path: Path) -> None:
    run = play(tmp_path, 3, (), SHORT)
    found = {f.check: f for f in check_run(Evidence.of(run))}[BY_PROMPT]
    assert found.verdict == "consistent" and found.p_value is not None and found.p_holm is not None
    assert found.smallest_effect is not None and math.isfinite(found.smallest_effect) and "(w)" in found.text
    assert found.n <= len(Evidence.of(run).own_tasks)
