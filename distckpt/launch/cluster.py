"""What the environment tells one worker of a local job: TF_CONFIG, the job's name, the count of restarts."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` different free ports on the loopback interface.

    All are held at once, so that none comes twice, and let go on return. Another process could take one before its
    worker does: then that worker fails, and a restart draws new ones.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def cluster_config(addresses: Sequence[str], worker: int) -> str:
    """The value of TF_CONFIG for one of the workers at `addresses` (format: tf.distribute.cluster_resolver)."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": worker}})


def worker_environment(
    environ: Mapping[str, str], ports: Sequence[int], worker: int, job: str, attempt: int
) -> dict[str, str]:
    """`environ` with what a worker of this job finds in it. Python shows lines as they are printed, not in blocks, and
    at SIGABRT the stacks of all threads.
    """
    return {
        "PYTHONFAULTHANDLER": "1",
        **environ,
        "TF_CONFIG": cluster_config([f"{HOST}:{port}" for port in ports], worker),
        "DISTCKPT_JOB_ID": job,
        "DISTCKPT_RESTARTS": str(attempt),
        "PYTHONUNBUFFERED": "1",
    }
