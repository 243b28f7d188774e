"""The house rules a machine can check: which room may import which, who reads clocks, sizes, names, words.

Arrows go down. A room imports facts and rooms of lower floors, never a neighbour on its own floor: neighbours meet
in files or are started as processes. Imports inside functions and under TYPE_CHECKING count, and so does
`import_module("...")` with a literal. To change a rule, change the tables below and say why in an ADR.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "loadtest"

FLOORS: list[set[str]] = [
    {"records", "clock", "quantiles", "fitness", "rank_score", "observed", "saturation"},
    {"runfolder", "spool", "processes", "arguments", "traffic", "client"},
    {"writers"},
    {"swarm", "collector", "simulator", "observe", "analysis"},
    {"report"},
    {"jobs"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

LOAD_ROOMS = {"traffic", "client", "swarm"}  # what a load process is made of
TABLE_LIBRARIES = {"pandas", "pyarrow", "duckdb", "polars"}  # 0.4 s, 80 MB and threads before the fork
LOCUST_IN = {"swarm"}
GEVENT_IN = {"swarm", "client/reactor.py"}
CLOCK_IN = {"clock.py"}
LAZY_PYARROW_IN = {"runfolder.py"}  # inside functions and under TYPE_CHECKING only
SLEEPERS = LOAD_ROOMS  # rooms that run on a gevent hub, which time.sleep would stop

CLOCKS = {
    "time": {"time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
LINES_MAX = 400
EMPTY_NAMES = {"manager", "handler", "util", "utils", "helper", "helpers", "base", "common", "misc"}


class Import(NamedTuple):
    line: int
    module: str
    lazy: bool  # inside a function or under TYPE_CHECKING


# Reading sources.


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every import of a module that lives in `package` (dotted), wherever it stands, with absolute names."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(child.lineno, alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parents = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
                module = ".".join([*parents, *([child.module] if child.module else [])])
                # `from loadtest import swarm` names a room only by its alias.
                names = [f"{module}.{alias.name}" for alias in child.names] if module == "loadtest" else [module]
                yield from (Import(child.lineno, name, lazy) for name in names)
            elif (named := _imported_by_call(child)) is not None:
                yield Import(child.lineno, named, lazy)  # type: ignore[attr-defined]
            functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, lazy or isinstance(child, functions) or typing_only)

    return walk(tree, lazy=False)


def _imported_by_call(node: ast.AST) -> str | None:
    """The module of `importlib.import_module("x")`, `import_module("x")` or `__import__("x")`."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = ast.unparse(node.func).rpartition(".")[2]
    return str(node.args[0].value) if called in ("import_module", "__import__") else None


def clock_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every clock taken from `time` or `datetime`, called or passed on, whatever it is called here."""
    modules = {"time": "time", "date": "date", "datetime": "datetime"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {a.asname: a.name for a in node.names if a.asname and a.name in ("time", "datetime")}
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            modules |= {a.asname: a.name for a in node.names if a.asname and node.module == "datetime"}
            for alias in node.names:
                if node.module == "time" and _is_clock("time", alias.name):
                    yield node.lineno, f"time.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if _is_clock(modules.get(owner, ""), node.attr):
                yield node.lineno, f"{modules[owner]}.{node.attr}"


def _is_clock(module: str, name: str) -> bool:
    return name.removesuffix("_ns") in CLOCKS.get(module, ())


def sleeps(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep") or (
            isinstance(node, ast.ImportFrom) and node.module == "time" and any(a.name == "sleep" for a in node.names)
        ):
            yield node.lineno


# The rules, each on the path inside loadtest/ and its source.


def room_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def within(path: str, places: set[str]) -> bool:
    return path in places or room_of(path) in places


def package_of(path: str) -> str:
    return ".".join(["loadtest", *path.split("/")[:-1]])


def broken_arrows(path: str, source: str) -> list[str]:
    """Imports of our own rooms that do not go down."""
    room = room_of(path)
    if room != "__init__" and room not in FLOOR_OF:
        return [f"loadtest/{path}:1 is a room without a floor: add it to FLOORS in tests/test_floors.py"]
    broken = []
    for line, module, _ in imports(ast.parse(source), package_of(path)):
        parts = module.split(".")
        if parts[0] != "loadtest" or len(parts) == 1 or parts[1] == room:
            continue
        if room == "__init__":
            why = "the package's own __init__ imports nothing"
        elif parts[1] not in FLOOR_OF:
            continue  # a plain name of the package, such as its version
        elif FLOOR_OF[parts[1]] == FLOOR_OF[room]:
            why = f"{room} and {parts[1]} are neighbours on floor {FLOOR_OF[room]}; let them meet in a file or a fact"
        elif FLOOR_OF[parts[1]] > FLOOR_OF[room]:
            why = f"upward, {room} is on floor {FLOOR_OF[room]} and {parts[1]} on floor {FLOOR_OF[parts[1]]}"
        else:
            continue
        broken.append(f"loadtest/{path}:{line} imports {module}: {why}")
    return broken


def broken_libraries(path: str, source: str) -> list[str]:
    """Imports of locust, gevent and the table libraries where they do not belong."""
    broken = []
    for line, module, lazy in imports(ast.parse(source), package_of(path)):
        library = module.partition(".")[0]
        why = ""
        if library == "locust" and not within(path, LOCUST_IN):
            why = "only swarm/ touches Locust"
        elif library == "gevent" and not within(path, GEVENT_IN):
            why = "only swarm/ and client/reactor.py run on gevent"
        elif library in TABLE_LIBRARIES and FLOOR_OF.get(room_of(path)) == 0:
            why = "facts are imported by load processes"
        elif library in TABLE_LIBRARIES and within(path, LOAD_ROOMS | {"spool"}):
            why = "load processes never hold tables; send rows to the collector"
        elif library in TABLE_LIBRARIES and path in LAZY_PYARROW_IN and not (lazy and library == "pyarrow"):
            why = "load processes import this module; import pyarrow inside the function"
        if why:
            broken.append(f"loadtest/{path}:{line} imports {module}: {why}")
    return broken


def broken_clocks(path: str, source: str) -> list[str]:
    tree = ast.parse(source)
    broken = []
    if not within(path, CLOCK_IN):
        broken += [
            f"loadtest/{path}:{line} reads {clock}: only clock.py reads clocks; use mono_ns or wall_ns"
            for line, clock in clock_reads(tree)
        ]
    if within(path, SLEEPERS):
        broken += [f"loadtest/{path}:{line} uses time.sleep: it would stop the gevent hub" for line in sleeps(tree)]
    return broken


def broken_shape(path: str, source: str) -> list[str]:
    broken = []
    lines = len(source.splitlines())
    if lines > LINES_MAX:
        broken.append(
            f"loadtest/{path}:{LINES_MAX} has {lines} lines (at most {LINES_MAX}): would two rooms be clearer?"
        )
    words = set(re.split(r"[/_.]", path))
    broken += [f"loadtest/{path}:1 is named {word}: say what lives there" for word in sorted(words & EMPTY_NAMES)]
    return broken


RULES = [broken_arrows, broken_libraries, broken_clocks, broken_shape]


def sources() -> dict[str, str]:
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))
    }


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(rule: object) -> None:
    assert callable(rule)
    found = sources()
    assert "records.py" in found  # the walk sees the house at all
    broken = [line for path, source in found.items() for line in rule(path, source)]
    assert not broken, "\n" + "\n".join(broken)


# What importing really loads: an arrow may also lead there through somebody else's package.

LOADED = """
import importlib, sys
forbidden, names = sys.argv[1].split(","), sys.argv[2:]
for name in names:
    importlib.import_module(name)
    loaded = sorted({module.partition(".")[0] for module in sys.modules} & set(forbidden))
    if loaded:
        sys.exit(f"importing {name} loads {', '.join(loaded)}")
"""


def modules(rooms: set[str]) -> list[str]:
    paths = [path for path in sources() if room_of(path) in rooms and not path.endswith("__main__.py")]
    return [".".join(["loadtest", *path.removesuffix(".py").removesuffix("/__init__").split("/")]) for path in paths]


@pytest.mark.parametrize(
    ("rooms", "forbidden"),
    [
        (FLOORS[0] | {"runfolder", "spool"}, TABLE_LIBRARIES | {"locust", "gevent"}),
        ({"traffic"}, TABLE_LIBRARIES | {"locust", "gevent"}),
        ({"client"}, TABLE_LIBRARIES | {"locust"}),
        ({"swarm"}, TABLE_LIBRARIES),
        ({"collector", "simulator", "observe", "analysis", "report"}, {"locust", "gevent"}),
    ],
    ids=["facts", "traffic", "client", "swarm", "offline"],
)
def test_importing_a_room_loads_no_more_than_it_may(rooms: set[str], forbidden: set[str]) -> None:
    names = modules(rooms)
    # One process for all modules of the rooms: each import is followed by a look at what it loaded.
    done = subprocess.run(
        [sys.executable, "-c", LOADED, ",".join(sorted(forbidden)), *names],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


# Words that must not be in the repository. Built from pieces, so that this file does not hold them.

HOSTS = [
    ".".join(pieces)
    for pieces in [
        ("py" + "pi", "org"),
        ("python" + "hosted", "org"),
        ("ana" + "conda", "org"),
        ("npm" + "js", "org"),
        ("npm" + "js", "com"),
        ("yarn" + "pkg", "com"),
        ("crates", "io"),
        ("ruby" + "gems", "org"),
        ("proxy", "golang", "org"),
        ("repo", "maven", "apache", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    ]
]
OUTSIDE = ["/".join(pieces) for pieces in [("..", "shared"), ("", "work", "shared")]]
OUTSIDE_ALLOWED_IN = {".ci/run"}


def forbidden_words(path: str, text: str) -> list[str]:
    words = HOSTS + ([] if path in OUTSIDE_ALLOWED_IN else OUTSIDE)
    return [
        f"{path}:{number} mentions {word}"
        for number, line in enumerate(text.lower().splitlines(), start=1)
        for word in words
        if word in line
    ]


def test_no_tracked_file_names_a_registry_or_a_place_outside() -> None:
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout: nothing is tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, timeout=60, check=True).stdout
    paths = [name for name in listed.decode("utf-8").split("\0") if name and (REPO / name).is_file()]
    assert "loadtest/records.py" in paths
    broken = [
        line
        for name in paths
        for line in forbidden_words(name, (REPO / name).read_text(encoding="utf-8", errors="replace"))
    ]
    assert not broken, "\n" + "\n".join(broken)


# Self-test: made-up sources that break a rule are caught, and sources that keep it are not.


@pytest.mark.parametrize(
    ("path", "source", "caught"),
    [
        ("traffic/x.py", "import loadtest.swarm.users", "upward"),
        ("traffic/x.py", "from loadtest import swarm", "upward"),
        ("traffic/x.py", "from ..swarm import users", "upward"),
        ("traffic/x.py", "from .. import swarm", "upward"),
        ("traffic/x.py", "def f():\n    from loadtest.swarm import users", "x.py:2 imports loadtest.swarm: upward"),
        ("runfolder.py", "if TYPE_CHECKING:\n    import loadtest.analysis.join", "runfolder.py:2 imports"),
        ("observe/x.py", "import importlib\nimportlib.import_module('loadtest.analysis')", "neighbours on floor 3"),
        ("analysis/x.py", "from loadtest.simulator.pool import Pool", "neighbours on floor 3"),
        ("traffic/x.py", "from loadtest.client.sse import decode", "neighbours on floor 1"),
        ("clock.py", "from loadtest.records import Outcome", "neighbours on floor 0"),
        ("report/page.py", "from loadtest.jobs import run", "upward"),
        ("attic/x.py", "", "without a floor"),
        ("__init__.py", "from loadtest.records import Outcome", "imports nothing"),
        ("client/routes.py", "import gevent.event", "only swarm/ and client/reactor.py"),
        ("analysis/x.py", "def f():\n    from locust import User", "only swarm/"),
        ("swarm/x.py", "def f():\n    import pandas as pd", "never hold tables"),
        ("fitness.py", "import pyarrow", "facts"),
        ("runfolder.py", "import pyarrow as pa", "inside the function"),
        ("runfolder.py", "def f():\n    import pandas", "inside the function"),
        ("swarm/x.py", "import time\nnow = time.time()", "x.py:2 reads time.time"),
        ("swarm/x.py", "import time as t\nf(now=t.monotonic_ns)", "reads time.monotonic_ns"),
        ("jobs/x.py", "from time import perf_counter as p", "reads time.perf_counter"),
        ("report/x.py", "from datetime import datetime as dt\ndt.now()", "reads datetime.now"),
        ("report/x.py", "import datetime\ndatetime.date.today()", "reads date.today"),
        ("client/x.py", "import time\ntime.sleep(1)", "stop the gevent hub"),
        ("report/x.py", "pass\n" * 401, "has 401 lines"),
        ("report/draw_utils.py", "", "is named utils"),
        ("report/common/x.py", "", "is named common"),
    ],
)
def test_a_made_up_violation_is_caught(path: str, source: str, caught: str) -> None:
    (told,) = [line for rule in RULES for line in rule(path, source)]
    assert told.startswith(f"loadtest/{path}:")
    assert caught in told


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("swarm/users.py", "import locust, gevent\nfrom loadtest.client import reactor\nfrom . import driver"),
        ("swarm/users.py", "from loadtest import __version__, clock"),
        ("client/reactor.py", "from gevent.hub import Waiter\nfrom .exchange import Exchange"),
        ("runfolder.py", "def f():\n    import pyarrow.parquet as pq\nif TYPE_CHECKING:\n    import pyarrow as pa"),
        ("cli.py", "def f():\n    from loadtest.jobs import demo\n    from loadtest.report import page"),
        ("analysis/join.py", "import pandas as pd\nfrom loadtest.runfolder import read_table"),
        ("jobs/demo.py", "import time\ntime.sleep(1)\ntime.strftime('%Y', time.gmtime(0))"),
        ("traffic/due.py", "import numpy as np\ndef due(now): return now.time() + arrival.time"),
        ("clock.py", "import time\ntime.monotonic_ns()"),
        ("analysis/baseline.py", "pass\n" * 400),
    ],
)
def test_what_is_allowed_is_not_caught(path: str, source: str) -> None:
    assert [line for rule in RULES for line in rule(path, source)] == []


def test_a_forbidden_word_is_caught_where_it_stands() -> None:
    assert forbidden_words("README.md", f"x\nsee https://{HOSTS[0]}/simple") == [f"README.md:2 mentions {HOSTS[0]}"]
    assert forbidden_words("docs/a.md", f"see {OUTSIDE[0]}/x") == [f"docs/a.md:1 mentions {OUTSIDE[0]}"]
    assert forbidden_words(".ci/run", f"ls {OUTSIDE[0]}") == []


def test_a_forbidden_library_is_caught_when_it_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "decimal,pandas", "json", "statistics"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (1, "importing statistics loads decimal")
