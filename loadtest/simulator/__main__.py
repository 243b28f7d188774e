"""`loadtest simulate`: a local network to try the harness on, and the yardstick its accuracy is measured with."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import msgspec

from loadtest.arguments import whole
from loadtest.clock import mono_ns, wall_ns
from loadtest.records import TruthRecord
from loadtest.runfolder import write_text
from loadtest.simulator.answers import PROXY_TIMEOUT_S
from loadtest.simulator.contest import play_contest
from loadtest.simulator.faults import FaultError, Faults
from loadtest.simulator.network import Network
from loadtest.simulator.pace import FineSelector, Pace
from loadtest.simulator.scenario import Scenario, ScenarioError, load_scenario, read_faults, scenario_names
from loadtest.simulator.server import Shell
from loadtest.simulator.stamped import StampedListener
from loadtest.simulator.truth import TruthError, TruthLog, check_path
from loadtest.simulator.variants import VARIANTS
from loadtest.simulator.wire import Connections

BACKLOG = 1024
YOUNG_OBJECTS = 1_000


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest simulate",
        description="Run a simulated router and its network of nodes on this machine, for trying out and for tests. "
        "It answers the router's API (/api/v1/...), OpenAI's (/v1/...) and the stats backend (/leaderboard, ...), "
        "all on one port. Sessions of the default scenario are 11 (one node per task), 12 (two) and 21 (three). "
        "Stop it with Ctrl-C.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument(
        "--port", type=whole(0, 65535), default=5010, help="port; 0 takes any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--port-file", type=Path, metavar="FILE", help="write the port to FILE as soon as the server is ready"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="same seed, same nodes and decisions (default: %(default)s)"
    )
    parser.add_argument(
        "--scenario",
        default="small",
        metavar="NAME_OR_FILE",
        help=f"which network: {', '.join(scenario_names())}, or a .toml file (default: %(default)s)",
    )
    parser.add_argument(
        "--nodes", type=whole(1, 500), help="how many nodes work in the network (default: the scenario's)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[=RATE[@TARGET]]",
        help="switch a fault on, as often as wanted; the README has the table",
    )
    parser.add_argument(
        "--contest",
        type=_days,
        metavar="DAYS",
        help="play so many days without HTTP, as fast as this machine can, print the scores of the nodes and end",
    )
    parser.add_argument(
        "--standings",
        type=Path,
        metavar="FILE",
        help="with --contest: also write the nodes to FILE, a CSV file that `loadtest contest` reads",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        help="how fast nodes answer: at 1 first tokens take about 50 to 400 ms and the next ones 5 to 30 ms each, "
        "with a long tail; 2 is twice as fast, and so are pings, oracles and all other clocks of the network "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="PATH",
        help="write what really happened to each request to Parquet files in the new folder PATH",
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="ask clients for the key in environment variable NAME (default: no key is asked for)",
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        choices=VARIANTS,
        metavar="NAME",
        help="where sources conflict, as often as wanted: " + "; ".join(f"{k}: {v}" for k, v in VARIANTS.items()),
    )
    parser.add_argument("--no-task-id", action="store_true", help="the same as --variant no-task-id")
    parser.add_argument(
        "--proxy-timeout",
        type=float,
        default=PROXY_TIMEOUT_S,
        metavar="SECONDS",
        help="an answer in one piece that takes longer is the proxy's page with status 504 (default: %(default)g)",
    )
    return parser


def _days(text: str) -> float:
    value = float(text)
    if not 0 < value <= 366:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 366, got {text}")
    return value


def _speed(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be 0.01 to 1000, got {text}")
    return value


def _contest(scenario: Scenario, arguments: argparse.Namespace, faults: Faults) -> int:
    contest = play_contest(scenario, arguments.seed, arguments.contest, faults)
    print(contest.table())
    if arguments.standings is not None:
        try:
            write_text(arguments.standings, contest.csv())
        except OSError as error:
            print(f"loadtest simulate: {arguments.standings}: cannot be written ({error.strerror})", file=sys.stderr)
            return 1
    return 0


async def simulate(
    arguments: argparse.Namespace, key: str | None, listening: StampedListener, scenario: Scenario, faults: Faults
) -> int:
    """Serve on `listening` until SIGTERM or SIGINT; returns the exit code."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    truth = None if arguments.truth is None else await TruthLog.start(arguments.truth)
    try:
        network = Network(scenario, arguments.seed, wall_ns(), arguments.speed, faults)
        record = _forget if truth is None else truth.add
        pace = Pace()
        variants = frozenset([*arguments.variant, *(["no-task-id"] if arguments.no_task_id else [])])
        shell = Shell(
            network,
            pace,
            record,
            host=arguments.host,
            key=key,
            variants=variants,
            faults=faults,
            proxy_timeout_s=arguments.proxy_timeout,
        )
        connections = Connections(listening, shell.serve, pace, faults)
        _settle_garbage()
        _announce(arguments, listening)
        pace.at(mono_ns(), shell)
        pace.run()
        await stop.wait()
        connections.hang_up()
    finally:
        if truth is not None:
            await truth.close()
    return 0


def _settle_garbage() -> None:
    """From here on only the youngest objects are collected, in passes well below a millisecond.

    A full collection walks every task kept and would stall all streams for tens of milliseconds. What refers to
    itself is taken apart by hand when it ends (`Connection.abort`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 1_000_000_000, 1_000_000_000)


def _announce(arguments: argparse.Namespace, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    if arguments.port_file is not None:
        write_text(arguments.port_file, f"{port}\n")
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"simulator listening on http://{host}:{port}", flush=True)


def _forget(row: TruthRecord) -> None:
    """Without --truth nobody keeps the rows."""


def _raise_descriptor_limit() -> None:
    """Soft limits of 1024 descriptors are common, and would end a test at 1000 connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: list[str] | None = None) -> int:
    """The command. Exit codes: 0 stopped by a signal with everything written, 1 could not run, 2 wrong usage."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        scenario = load_scenario(arguments.scenario)
        if arguments.nodes is not None:
            scenario = msgspec.structs.replace(scenario, nodes=arguments.nodes)
        faults = read_faults(scenario, arguments.fault, arguments.seed)
    except (ScenarioError, FaultError) as error:
        parser.error(str(error))
    if arguments.contest is not None:
        return _contest(scenario, arguments, faults)
    if arguments.standings is not None:
        parser.error("--standings: only a contest has standings; give --contest DAYS too")
    key = None
    if arguments.api_key_env is not None:
        key = os.environ.get(arguments.api_key_env)
        if not key:
            parser.error(f"--api-key-env {arguments.api_key_env}: the variable is not set; export it first")
    _raise_descriptor_limit()
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    try:
        if arguments.truth is not None:
            check_path(arguments.truth)
        with (
            socket.create_server((arguments.host, arguments.port), family=family, backlog=BACKLOG) as listening,
            asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FineSelector())) as runner,
        ):
            return runner.run(simulate(arguments, key, StampedListener(listening), scenario, faults))
    except OSError as error:
        where = f"{arguments.host}:{arguments.port}: {error.strerror or error}; give another --port or --host"
        if error.filename is not None:
            where = f"{error.filename}: {error.strerror}; name another file"
        print(f"loadtest simulate: {where}", file=sys.stderr)
    except TruthError as error:
        print(f"loadtest simulate: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
