"""Our command-line options beside Locust's own, and Locust's defaults where ours are safer."""

from __future__ import annotations

from argparse import Namespace

from locust.argument_parser import LocustArgumentParser

from loadtest.arguments import amount
from loadtest.traffic.flags import add_flags, add_trace_options

DEFAULT_PROFILE = "community"
STOP_TIMEOUT_FROM_PROFILE = -1
FORM_FLAGS = ("--request-rate", "--target", "--duration")  # of the page; the others are for command lines


def add_options(parser: LocustArgumentParser) -> None:
    """Called by Locust before it reads the command line."""
    # Listening for workers or browsers on every address is a decision, not a default.
    parser.set_defaults(
        master_bind_host="127.0.0.1",
        web_host="127.0.0.1",
        profile=DEFAULT_PROFILE,
        stop_timeout=STOP_TIMEOUT_FROM_PROFILE,
        exit_code_on_error=0,
    )
    add = parser.add_argument
    add_flags(lambda name, **more: add(name, include_in_web_ui=name in FORM_FLAGS, **more))
    add("--seed", type=int, default=1, help="decides every arrival, text and length; another seed, another run")
    add_trace_options(add)
    add("--runs-dir", default="runs", metavar="DIR", help="where run folders are made", include_in_web_ui=False)
    add("--run-id", default="", metavar="ID", help="name of the run folder; default: UTC time", include_in_web_ui=False)
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host that is not this machine and may be loaded; needs --rate-ceiling",
        include_in_web_ui=False,
    )
    add(
        "--rate-ceiling",
        type=amount,
        default=0.0,
        metavar="N",
        help="refuse profiles with more new conversations per second than this",
        include_in_web_ui=False,
    )
    add(
        "--ceiling",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="stop the run when it has used up so much, in place of the profile's [ceilings]: requests, "
        "requests_per_s, tokens, cost (with a price_...), time_s, error_share; may be repeated",
        include_in_web_ui=False,
    )
    add(
        "--stop-saturated",
        action="store_true",
        help="stop the run when requests in flight and TTFT rise together: more than the target can serve",
        include_in_web_ui=False,
    )
    add(
        "--misses-max",
        action="append",
        default=[],
        metavar="METRIC:MS:N",
        help="stop the run when more than N measured turns failed or took longer, as in ttft_ms:2000:151",
        include_in_web_ui=False,
    )
    add(
        "--spool-only",
        action="store_true",
        help="rows stay in the workers' spools, under --runs-dir of each; `loadtest collect` completes the run",
        include_in_web_ui=False,
    )
    add(
        "--collector-port",
        type=int,
        default=0,
        metavar="N",
        help="port for the workers' rows, for tunnels and firewalls; default: any that is free",
        include_in_web_ui=False,
    )
    add(
        "--insecure",
        action="store_true",
        help="listen for workers or browsers beyond this machine without encryption or login",
        include_in_web_ui=False,
    )
    add(
        "--encrypted-path",
        default="",
        metavar="NAME",
        help="what encrypts the way to an address beyond this machine, as in wg0; kept in the manifest",
        include_in_web_ui=False,
    )
    add(
        "--metrics-port",
        type=int,
        default=0,
        metavar="N",
        help="serve /metrics for Prometheus on a port of its own; the web page has it too, behind its login",
        include_in_web_ui=False,
    )
    add(
        "--metrics-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address that --metrics-port listens on; beyond this machine it needs --encrypted-path or --insecure",
        include_in_web_ui=False,
    )
    add("--no-screen", action="store_true", help="plain lines instead of the live screen", include_in_web_ui=False)
    add("--save-text", action="store_true", help="keep what every answer said, in texts/ of the run folder")
    add("--no-observe", action="store_true", help="do not watch nodes and tasks while the run goes on")
    add("--no-report", action="store_true", help="leave join and report for later (`loadtest join`, `loadtest report`)")


def stop_timeout_s(options: Namespace, drain_s: float) -> float:
    """How long requests in flight may take to end: --stop-timeout when given, else the profile's drain time.

    Locust's own default of 0 would cut the slowest requests and so flatter the target.
    """
    return drain_s if options.stop_timeout == STOP_TIMEOUT_FROM_PROFILE else float(options.stop_timeout)


def with_locusts_own(options: Namespace, mode: str) -> Namespace:
    """Our flags with what Locust's own say filled in: -t is --duration; -u is --max-concurrency of an open load and
    --concurrency of a closed one. Where both are given, ours counts.

    With a web UI both belong to the page and may change with every run: the profile stays as it is.
    """
    own = Namespace(**vars(options))
    if not options.headless:
        return own
    if options.run_time is not None and own.duration is None:
        own.duration = str(options.run_time)
    if options.num_users is not None and own.concurrency is None:
        if mode == "closed":
            own.concurrency = str(options.num_users)
        elif own.max_concurrency is None:
            own.max_concurrency = str(options.num_users)
    return own
