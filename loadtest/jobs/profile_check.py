"""`loadtest profile check`: every mistake of a profile in one pass, each with its field and line."""

from __future__ import annotations

import difflib
import sys
import tomllib
from collections.abc import Iterator

from loadtest.client.routes import ROUTES
from loadtest.traffic.places import line_of
from loadtest.traffic.profile import ProfileError, load_profile, profile_hash, profile_text
from loadtest.traffic.reading import Mistake
from loadtest.traffic.tokens import encoding_names

EXIT_PASS, EXIT_USAGE = 0, 2


def profile_check(name_or_file: str) -> int:
    """Print "FILE:LINE: field: what is wrong" for each mistake, or one line that says what the profile is."""
    found: list[Mistake] = []
    try:
        text, source = profile_text(name_or_file)
        profile = load_profile(name_or_file)
    except ProfileError as error:
        if not error.found:
            print(f"loadtest: {error}", file=sys.stderr)  # no file, or no TOML: there the line is in the text
            return EXIT_USAGE
        found += error.found
    found += _unknown(text)
    if found:
        numbered = sorted((line_of(text, each.place), each) for each in found)
        for line, each in numbered:
            print(f"{source}:{line}: {each.place}: {each.what}", file=sys.stderr)
        return EXIT_USAGE
    load = profile.load
    kind = f"open load ({load.arrivals})" if load.mode == "open" else f"closed load of {load.members} members"
    print(
        f"{source}: no mistakes; {kind}, {load.duration_s:g} s, {len(profile.personas)} personas, "
        f"{len(profile.targets)} targets, tokens of {profile.writing.encoding}, hash {profile_hash(profile)}"
    )
    return EXIT_PASS


def _unknown(text: str) -> Iterator[Mistake]:
    """Names that only other rooms know: routes of the client, encodings."""
    fields = tomllib.loads(text)
    targets = fields.get("target")
    for number, target in enumerate(targets if isinstance(targets, list) else [], start=1):
        route = target.get("route") if isinstance(target, dict) else None
        if isinstance(route, str) and route not in ROUTES:
            label = target["name"] if isinstance(target.get("name"), str) else number
            near = difflib.get_close_matches(route, ROUTES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(ROUTES)}"
            yield Mistake(f"[[target]] {label} route", f"no route {route!r:.60}, {hint}")
    writing = fields.get("writing")
    encoding = writing.get("encoding") if isinstance(writing, dict) else None
    if isinstance(encoding, str) and encoding not in encoding_names():
        yield Mistake("[writing] encoding", f"{encoding!r:.60} is unknown, choose one of {', '.join(encoding_names())}")
