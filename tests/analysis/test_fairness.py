"""Selection checks on made choices: what each one sees, what it must not see, and how small."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from loadtest.analysis.eligibility import Choices
from loadtest.analysis.fairness import fairness
from loadtest.analysis.findings import Finding, holm

NODES = tuple(f"0x{i:040x}" for i in range(8))


def choices(assigned: list[tuple[str, ...]], eligible: tuple[str, ...] = NODES) -> Choices:
    tasks = pd.DataFrame({"assigned": assigned})
    pairs = [(i, i + 1, eligible) for i in range(len(assigned) - 1)]
    return Choices(tasks, [eligible] * len(assigned), pairs, Counter(), True)


def drawn(n: int, size: int = 2, seed: int = 1, weights: list[float] | None = None) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    share = None if weights is None else np.array(weights) / sum(weights)
    return [tuple(NODES[i] for i in rng.choice(len(NODES), size, replace=False, p=share)) for _ in range(n)]


def findings(made: Choices) -> dict[str, Finding]:
    return {finding.check: finding for finding in fairness(made)}


def test_fair_draws_are_consistent_and_the_power_is_stated() -> None:
    found = findings(choices(drawn(2000)))
    assert {f.verdict for f in found.values()} == {"consistent"}
    assert "would have been seen" in found["shuffling"].text
    assert 0 < (found["shuffling"].smallest_effect or 0) < 0.1
    assert any(line.startswith("Jain") and "under fair choice" in line for line in found["shuffling"].evidence)


def test_a_favoured_node_is_found_and_named() -> None:
    found = findings(choices(drawn(2000, weights=[2.0] + [1.0] * 7)))
    assert found["shuffling"].verdict == "found"
    assert "0x000000…0000 took" in found["shuffling"].text
    assert found["starvation"].verdict == "consistent"


def test_a_rotation_is_too_even_and_avoids() -> None:
    found = findings(choices([(NODES[i % 8],) for i in range(800)]))
    assert found["shuffling"].verdict == "found" and "take turns" in found["shuffling"].text
    assert found["stickiness"].verdict == "found" and found["stickiness"].text.startswith("Avoiding")


def test_sticky_tasks_are_found_though_every_node_has_its_share() -> None:
    rng = np.random.default_rng(2)
    at, assigned = 0, []
    for _ in range(3000):
        at = at if rng.random() < 0.2 else int(rng.integers(8))
        assigned.append((NODES[at],))
    found = findings(choices(assigned))
    assert found["stickiness"].verdict == "found" and found["stickiness"].text.startswith("Sticky")
    assert found["stickiness"].effect == pytest.approx((0.2 + 0.8 / 8) * 8 - 1, rel=0.15)
    assert found["shuffling"].p_value is not None


def test_a_starved_node_is_found_and_a_late_joiner_is_not() -> None:
    starved = findings(choices(drawn(400, weights=[1e-12] + [1.0] * 7)))["starvation"]
    assert starved.verdict == "found" and "0x000000…0000 got 0 tasks; 100.0 are expected" in starved.evidence
    early, late = drawn(400, weights=[1e-12] + [1.0] * 7), drawn(20, seed=3)
    tasks = pd.DataFrame({"assigned": early + late})
    joined = Choices(tasks, [NODES[1:]] * 400 + [NODES] * 20, [], Counter(), True)
    assert findings(joined)["starvation"].verdict == "consistent"


def test_without_a_source_or_with_too_few_tasks_nothing_is_claimed() -> None:
    nobody = Choices(pd.DataFrame({"assigned": []}), [], [], Counter(), True)
    assert {(f.verdict, f.missing) for f in fairness(nobody)} == {
        ("cannot tell", "task look-ups (assigned miners)"),
    }
    untold = Choices(pd.DataFrame({"assigned": drawn(500)}), [()] * 500, [], Counter(), False)
    assert {f.verdict for f in fairness(untold)} == {"cannot tell"}
    assert all("sessions" in f.missing for f in fairness(untold))
    few = fairness(choices(drawn(20)))
    assert {f.verdict for f in few} == {"cannot tell"} and "50 are needed" in few[0].text
    failing = Choices(pd.DataFrame({"assigned": drawn(500)}), [NODES] * 500, [], Counter(), True, untold_share=0.02)
    assert {f.verdict for f in fairness(failing)} == {"cannot tell"}, "the nodes that fail are not in the sample"
    everybody = fairness(choices([NODES] * 500))
    assert {f.verdict for f in everybody} == {"cannot tell"}, "all are taken: there is no choice"


# Many checks together.


def test_holm_corrects_and_says_so() -> None:
    def one(p: float | None, verdict: str = "found") -> Finding:
        return Finding("c", verdict, "It is.", p_value=p)  # type: ignore[arg-type]

    corrected = holm([one(0.004), one(0.0001), one(None), one(0.5, "consistent")])
    assert [f.p_holm for f in corrected] == [pytest.approx(0.008), pytest.approx(0.0003), None, 0.5]
    assert [f.verdict for f in corrected] == ["found", "found", "found", "consistent"]
    alone = holm([one(0.004), one(0.5, "consistent"), one(0.5, "consistent")])[0]
    assert alone.verdict == "consistent" and "among 3 checks it is not" in alone.text


def test_holm_keeps_the_error_of_the_family() -> None:
    """Twelve checks without effect: something is reported in about 1 % of the runs."""
    rng = np.random.default_rng(4)
    reported = 0
    for _ in range(3000):
        made = [Finding("c", "found" if p < 0.01 else "consistent", "", p_value=p) for p in rng.random(12).tolist()]
        reported += any(f.verdict == "found" for f in holm(made))
    assert reported / 3000 < 0.016
