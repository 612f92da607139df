"""Whether this process may have as many connections open as its job has workers."""

from __future__ import annotations

import resource
from pathlib import Path

from distckpt.errors import ConfigurationError

_OPEN_NOW = Path("/dev/fd")


def check_room_for(workers: int) -> None:
    """Raises ConfigurationError where `workers` connections, one for each, are more than this process may open.

    Without this the last ones could not join, and every worker would wait for them until its deadline.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = workers + len(list(_OPEN_NOW.iterdir()))
    if limit == resource.RLIM_INFINITY or needed <= limit:
        return
    how = (
        "the system's administrator can" if most != resource.RLIM_INFINITY and needed > most else f"ulimit -n {needed}"
    )
    raise ConfigurationError(
        f"{workers} workers need a connection each, and the chief's process may open {limit} files, of which it has "
        f"{needed - workers} open: raise its limit to {needed} or more ({how})"
    )
