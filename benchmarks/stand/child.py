"""A client process: `python -m stand.child TASK`, pinned to the client's core; prints what it tells of itself."""

from __future__ import annotations

import sys

import locust  # noqa: F401  it patches the standard library first, for gevent
import msgspec

from stand.native import pin
from stand.task import Task, allow_descriptors


def main() -> None:
    task = msgspec.json.decode(sys.argv[1], type=Task)
    pin(task.core)
    allow_descriptors()
    if task.client == "ours":
        from stand import ours as client
    else:
        from stand import peers as client  # type: ignore[no-redef]
    print(msgspec.json.encode(client.run(task)).decode())


if __name__ == "__main__":
    main()
