"""Is selection shuffled and fair: three checks against uniform choice among the eligible nodes of a session.

*shuffling*: the counts of all nodes together, against the exact covariance of r of K draws, both tails: too uneven is
favour, too even is rotation. *stickiness*: how many nodes successive tasks of a session share. *starvation*: any
single node that got so few tasks that chance does not explain it. Other tenants' tasks are invisible and do no harm:
each of our tasks is a draw of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtest.analysis import chance
from loadtest.analysis.chance import Stratum, Uniform
from loadtest.analysis.eligibility import Choices
from loadtest.analysis.findings import ALPHA, Finding, evidence, no_source, percent, shorten, too_few

SHUFFLING, STICKINESS, STARVATION = "shuffling", "stickiness", "starvation"
TASKS_MIN = 50
UNTOLD_MAX = 0.01
SEED = 1  # of the bands of Jain and Gini: the same run gives the same report
NO_SESSIONS = "the nodes of each session (GET /api/v1/sessions, field miners)"
NO_LOOKUPS = "task look-ups (assigned miners)"


def fairness(choices: Choices) -> list[Finding]:
    """The three findings, in this order."""
    names = (SHUFFLING, STICKINESS, STARVATION)
    untold = cannot_be_told(choices, names)
    if untold:
        return untold
    strata = [stratum for stratum in choices.strata() if stratum.tells]
    draws = sum(stratum.draws for stratum in strata)
    if draws < TASKS_MIN:
        why = f"{draws} tasks had a choice among eligible nodes that are known, and {TASKS_MIN} are needed"
        left = ", ".join(f"{count} because {reason}" for reason, count in choices.left_out.most_common())
        return [too_few(name, draws, f"{why}{f' ({left} left out)' if left else ''}") for name in names]
    return [_shuffling(choices, strata, draws), _stickiness(choices), _starvation(strata, draws)]


def cannot_be_told(choices: Choices, names: Sequence[str]) -> list[Finding]:
    """A finding for each of the checks where nobody's choice can be looked at; [] where it can."""
    if not len(choices.tasks):
        return [no_source(name, NO_LOOKUPS, "no task of ours was looked up") for name in names]
    if not choices.is_told:
        return [no_source(name, NO_SESSIONS, "no router told which nodes a session may use") for name in names]
    if choices.untold_share > UNTOLD_MAX:
        why = f"{percent(choices.untold_share)} of our requests failed and told no task: the nodes that had them are "
        why += "not known, and may be others than those that answer"
        return [Finding(name, "cannot tell", f"{why}.", missing="task ids of failed requests") for name in names]
    return []


def _shuffling(choices: Choices, strata: list[Stratum], draws: int) -> Finding:
    found = chance.uniform_test(strata, ALPHA)
    if found is None:
        return too_few(SHUFFLING, draws, f"{draws} tasks are less than five for each of two nodes")
    # The smaller tail twice: both are looked at.
    p = min(1.0, 2 * min(found.p_uneven, found.p_even))
    lines = [
        f"{draws} tasks in {len(strata)} strata of constant eligibility, {len(found.nodes)} nodes; "
        f"chi-square {found.statistic:.1f} with {found.freedom} degrees of freedom",
        *_concentration(found),
        *(f"left out: {count} tasks, {reason}" for reason, count in choices.left_out.most_common()),
    ]
    if p >= ALPHA:
        text = f"Consistent with uniform choice among eligible nodes; an unevenness of {percent(found.smallest)} "
        text += "(w, root mean square over nodes) would have been seen, or one node with "
        text += f"{1 + found.smallest * math.sqrt(len(found.nodes)):.1f} times its share."
    elif found.p_uneven < found.p_even:
        text = f"Not uniform: nodes deviate by {percent(found.effect)} (w) from equal shares among eligible ones. "
        text += _extremes(found)
    else:
        text = "More even than random choice can be: the nodes take turns."
    return Finding(
        SHUFFLING,
        "consistent" if p >= ALPHA else "found",
        text,
        n=draws,
        p_value=p,
        effect=found.effect,
        smallest_effect=found.smallest,
        unit="w",
        evidence=evidence(lines),
    )


def _concentration(found: Uniform) -> list[str]:
    shares = found.observed / found.expected
    jains, ginis = chance.concentration_bands(found, SEED)
    figures = (("Jain", chance.jain(shares), jains), ("Gini", chance.gini(shares), ginis))
    return [
        f"{name} {value:.3f}, under fair choice {band.mean:.3f} (95 %: {band.low:.3f} to {band.high:.3f})"
        for name, value, band in figures
    ]


def _extremes(found: Uniform) -> str:
    ratios = found.observed / found.expected
    most, least = int(ratios.argmax()), int(ratios.argmin())
    said = [
        f"{shorten(found.nodes[i])} took {found.observed[i]:.0f} where {found.expected[i]:.0f} were expected"
        for i in (most, least)
    ]
    return f"{said[0]}, {said[1]}."


def _stickiness(choices: Choices) -> Finding:
    pairs, shared, expected, variance = 0, 0, 0.0, 0.0
    assigned: list[tuple[str, ...]] = choices.tasks["assigned"].tolist()
    for first, second, nodes in choices.pairs:
        before, taken = set(assigned[first]) & set(nodes), assigned[second]
        if len(taken) < len(nodes):  # else there is no choice
            mean, spread = chance.overlap_moments(len(nodes), len(before), len(taken))
            pairs, shared = pairs + 1, shared + len(before & set(taken))
            expected, variance = expected + mean, variance + spread
    if pairs < TASKS_MIN or not variance:
        return too_few(STICKINESS, pairs, f"{pairs} pairs of successive tasks, and {TASKS_MIN} are needed")
    p = chance.two_sided((shared - expected) / math.sqrt(variance))
    smallest = chance.smallest_shift(ALPHA) * math.sqrt(variance) / expected
    effect = shared / expected - 1
    if p >= ALPHA:
        text = "Successive tasks of a session share as many nodes as chance gives; "
        text += f"{percent(smallest)} more or fewer would have been seen."
    elif effect > 0:
        text = f"Sticky: successive tasks of a session share {percent(effect)} more nodes than chance gives."
    else:
        text = f"Avoiding: successive tasks of a session share {percent(-effect)} fewer nodes than chance gives, "
        text += "as with rotation or a cooldown."
    lines = [f"{pairs} pairs of successive tasks shared {shared} nodes; {expected:.0f} are expected"]
    return Finding(
        STICKINESS,
        "consistent" if p >= ALPHA else "found",
        text,
        n=pairs,
        p_value=p,
        effect=effect,
        smallest_effect=smallest,
        unit="relative excess of shared nodes",
        evidence=evidence(lines),
    )


def _starvation(strata: list[Stratum], draws: int) -> Finding:
    seen: dict[str, int] = {}
    trials: dict[str, list[tuple[int, float]]] = {}
    for stratum in strata:
        for node, count in zip(stratum.nodes, stratum.counts, strict=True):
            seen[node] = seen.get(node, 0) + int(count)
            trials.setdefault(node, []).append((stratum.draws, stratum.size / len(stratum.nodes)))
    expected = {node: sum(n * p for n, p in trials[node]) for node in trials}
    low = {node: chance.counts_below(trials[node], seen[node]) for node in trials if seen[node] < expected[node] / 2}
    told = len(trials)
    p = min(1.0, told * min(low.values(), default=1.0))
    blind = [node for node in trials if told * chance.counts_below(trials[node], 0) >= ALPHA]
    starved = sorted((node for node in low if told * low[node] < ALPHA), key=lambda node: low[node])
    lines = [f"{shorten(node)} got {seen[node]} tasks; {expected[node]:.1f} are expected" for node in starved]
    if starved:
        text = f"Starved: {len(starved)} of {told} eligible nodes got less than half of their share."
    else:
        text = f"No eligible node got so little that chance does not explain it ({told} nodes). "
        text += (
            f"A node that got nothing would have been seen, but for {len(blind)}."
            if blind
            else ("A node that got nothing would have been seen, whichever it is.")
        )
    return Finding(
        STARVATION,
        "found" if starved else "consistent",
        text,
        n=draws,
        p_value=p,
        effect=min((seen[node] / expected[node] for node in starved), default=None),
        smallest_effect=None if blind else 0.0,
        unit="share of what is expected",
        evidence=evidence(lines),
    )
