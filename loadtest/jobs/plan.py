"""`loadtest plan`: what a profile will offer, as text, JSON and a picture. Nothing is sent."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from loadtest.analysis.forecast import Assumed, forecast
from loadtest.report.plan_picture import plan_picture
from loadtest.traffic.overrides import with_flags
from loadtest.traffic.profile import ProfileError, load_profile
from loadtest.traffic.replay import TraceError, asked_trace

EXIT_PASS, EXIT_NOT_MADE, EXIT_USAGE = 0, 1, 2


def plan(args: Namespace) -> int:
    """Print the plan of a profile; the exit code is 0 also with warnings."""
    try:
        profile = with_flags(load_profile(args.profile), args)
        trace = asked_trace(args)
        if profile.load.arrivals == "trace" and trace is None:
            raise ProfileError(f'{profile.source}: [load] arrivals: "trace" needs a trace file, give --trace FILE')
        prices = profile.ceilings
        assumed = Assumed(
            args.answer_s,
            args.workers,
            args.price_in or prices.price_per_million_prompt_tokens,
            args.price_out or prices.price_per_million_output_tokens,
            prices.price_per_request,
        )
        found = forecast(profile, args.seed, trace, assumed)
    except (ProfileError, TraceError, ValueError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return EXIT_USAGE
    if args.picture is not None:
        try:
            Path(args.picture).write_text(plan_picture(found), encoding="utf-8")
        except OSError as error:
            print(f"loadtest: {args.picture}: cannot be written ({error.strerror})", file=sys.stderr)
            return EXIT_NOT_MADE
    print(json.dumps(found, indent=1) if args.json else plan_text(found))
    return EXIT_PASS


def plan_text(found: dict[str, Any]) -> str:
    """A forecast on one screen."""
    rates = [each["requests_per_s"] for each in found["series"]]
    begun = [each["conversations_per_s"] for each in found["series"]]
    at, here, cost = found["concurrency"], found["per_worker"], found["cost"]
    answer_s = found["assumed"]["service_s"]
    lines = [
        f"plan of {found['profile']} ({found['profile_hash']}), seed {found['seed']}: {found['mode']} load"
        + (f", {found['arrivals']} arrivals" if found["arrivals"] else ""),
        f"offered for {found['offered_s']:,.1f} s, {found['warmup_s']:g} s of them warm-up; supposed: an answer takes "
        f"{answer_s:g} s",
        "",
        f"conversations      {found['conversations']:,} ({found['conversations'] / found['offered_s']:.2f}/s, "
        f"peak {max(begun):.2f}/s)",
        f"requests           {found['requests_due']:,} ({found['requests_due'] / found['offered_s']:.2f}/s, peak "
        f"{max(rates):.2f}/s), {found['requests_measured']:,} of them measured",
        f"requests/s         {_sparkline(rates)}",
        f"tokens in          {found['prompt_tokens']:,} (p50, p95, max of a prompt: {_few(found, 'prompt_tokens')}), "
        f"{found['encoding']}",
        f"tokens out         at most {found['output_tokens_max']:,} (of an answer: {_few(found, 'output_tokens')})",
        f"in flight          {at['requests_by_little']:,.1f} requests, {at['conversations_by_little']:,.1f} "
        f"conversations by Little's law; peaks {at['requests_peak']:,} and {at['conversations_peak']:,}; "
        f"{'cap' if found['mode'] == 'open' else 'members'} {at['cap']:,}",
        f"each of {here['workers']} workers  {here['sockets']} sockets, {here['memory_mb']} MB, at most "
        f"{here['requests_per_s_peak']:g} requests/s",
        f"run folder         about {found['run_folder_mb']:,} MB",
        f"cost               {'no price stated (--price-in, --price-out)' if cost is None else f'at most {cost:,.4f}'}",
        "",
        "percentile   metric        requests   beyond it   for comparing",
        *(
            f"{row['percentile']:<12} {row['metrics']:<12} {row['n']:>9,} {row['beyond']:>11,}   "
            + ("enough" if row["n"] >= row["needed"] else f"too few, {row['needed']:,} would do")
            for row in found["percentiles"]
        ),
    ]
    if found["conversations_walked"] < found["conversations"]:
        lines.append(f"turns and tokens are those of {found['conversations_walked']:,} conversations, scaled up")
    return "\n".join([*lines, *(f"WARNING: {text}" for text in found["warnings"])])


def _few(found: dict[str, Any], name: str) -> str:
    return ", ".join(f"{value:,}" for value in found[f"{name}_p50_p95_max"])


def _sparkline(values: list[float]) -> str:
    """60 columns, each the mean of two bins, against the highest."""
    means = [sum(values[place : place + 2]) / 2 for place in range(0, len(values), 2)]
    top = max(means) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * mean / top))] for mean in means)
