"""How much of a core it costs to know what to send: arrivals, shapes, texts.

Run: PYTHONPATH=. python benchmarks/traffic.py [PROFILE]. Seconds differ between machines, so the figure to compare is
the ratio to a reference measured in the same run: encoding the same prompts once with tiktoken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice

from loadtest.clock import cpu_ns
from loadtest.traffic.arrivals import BLOCK, due_blocks
from loadtest.traffic.profile import load_profile
from loadtest.traffic.schedule import ConversationShape, Schedule
from loadtest.traffic.tokens import count_tokens, load_encoding

CONVERSATIONS = 2_000
ROUNDS = 3
IN_FLIGHT = 200
REQUESTS_PER_S = 200  # what one worker should offer with less than a tenth of a core spent here


def best_us(work: Callable[[], object], per: int) -> float:
    """CPU microseconds per item, the least of a few rounds: noise only ever adds."""
    rounds = []
    for _ in range(ROUNDS):
        before = cpu_ns()
        work()
        rounds.append((cpu_ns() - before) / 1000 / per)
    return min(rounds)


def texts(fresh: Schedule, requests: list[tuple[ConversationShape, int]]) -> None:
    """Every prompt once. The schedule is a fresh one: a used one keeps texts."""
    for shape, turn in requests:
        fresh.messages(shape, turn)


def main() -> None:
    profile = load_profile(sys.argv[1] if len(sys.argv) > 1 else "community")
    schedule = Schedule(profile, 1)
    before = cpu_ns()
    schedule.prepare()
    prepare_ms = (cpu_ns() - before) / 1e6
    encoding = load_encoding(profile.writing.encoding)
    shapes = [schedule.shape(index) for index in range(CONVERSATIONS)]
    requests = [(shape, turn) for shape in shapes[: CONVERSATIONS // 4] for turn in range(len(shape.turns))]
    # A worker has many conversations in flight: their turns come between each other's.
    requests.sort(key=lambda request: (request[0].index // IN_FLIGHT, request[1]))
    prompts = [schedule.messages(shape, turn) for shape, turn in requests]
    tokens = sum(shape.turns[turn].prompt_tokens for shape, turn in requests)

    encode_us = best_us(
        lambda: [count_tokens(encoding, text) for messages in prompts for _, text in messages], len(prompts)
    )
    rows = [
        ("one tiktoken encode of a prompt (reference)", encode_us),
        ("text of a prompt", best_us(lambda: texts(Schedule(profile, 1), requests), len(requests))),
        ("shape of a conversation", best_us(lambda: list(map(schedule.shape, range(CONVERSATIONS))), CONVERSATIONS)),
    ]
    if profile.load.mode == "open":
        arrivals = 200_000
        blocks = arrivals // BLOCK
        rows.append(
            ("due instant", best_us(lambda: sum(map(len, islice(due_blocks(profile.load, 1), blocks))), arrivals))
        )
        rows.append(("arrival", best_us(lambda: list(islice(schedule.arrivals(1 << 62), arrivals)), arrivals)))
        horizon_us = int(profile.load.duration_s * 1e6)
        planned = sum(1 for _ in schedule.arrivals(horizon_us))
        rows.append(("planned turns, per arrival", best_us(lambda: schedule.planned_turns(horizon_us), planned)))
    print(f"profile {profile.name}: {tokens / len(requests):.0f} tokens a prompt; prepare {prepare_ms:.0f} ms")
    for name, us in rows:
        print(f"{name:45} {us:10.2f} us {1e6 / us:12,.0f} /s   {us / encode_us:8.3f} x reference")
    share = REQUESTS_PER_S * (rows[1][1] + rows[2][1]) / 1e6
    print(f"{REQUESTS_PER_S} requests/s spend {share:.1%} of a core on shapes and texts")


if __name__ == "__main__":
    main()
