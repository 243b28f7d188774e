"""Who writes in a run folder: the collector holds the folder, a worker its spool, each as long as it is at work.

Kernel locks on what is there anyway: they leave no file, and end with their process however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.runfolder import RunFolderError


@contextmanager
def sole_writer(run: Path) -> Iterator[None]:
    """Hold a run folder while rows are stored in it. RunFolderError: another process does, so the run is still on."""
    try:
        descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RunFolderError(f"{run}: not a run folder ({error.strerror}); give the folder of one run") from None
    try:
        if not locked(descriptor):
            raise RunFolderError(f"{run}: a run is still being stored here; wait until it has ended")
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file, which lasts until it is closed; whether no other process has it.

    Some file systems of clusters know no locks. There a run must be possible all the same, and nothing guards it.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def require_no_writers(spools: Iterable[Path]) -> None:
    """A worker holds its spool as long as it writes: taken from it, what it writes afterwards would be lost."""
    for path in spools:
        with path.open("rb") as file:
            # Shared: over NFS a lock of one's own needs a file that is open for writing.
            if not locked(file.fileno(), fcntl.LOCK_SH):
                raise RunFolderError(f"{path}: a worker is still writing to it; wait until the run has ended")
