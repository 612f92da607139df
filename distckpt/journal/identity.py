"""Which job is this? The same over restarts, another for another job (docs/decisions/0003-job-identity.md)."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from distckpt.errors import ConfigurationError

Source = Literal["argument", "DISTCKPT_JOB_ID", "Slurm", "TF_CONFIG", "none"]
ID_CHARACTERS_MAX = 200
_THIS_PROCESS = uuid4().hex

_LOCAL = ("localhost", "127.", "[::1]", "::1", "0.0.0.0")  # noqa: S104 - addresses of others, not to listen on


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """`source` says where `id` comes from; "none": it is of this process, and a restart is another job."""

    id: str
    source: Source


def job_identity(explicit: str | None, environ: Mapping[str, str]) -> JobIdentity:
    """The first of: `explicit`, DISTCKPT_JOB_ID, the Slurm job, the cluster in TF_CONFIG, this process.

    Raises ConfigurationError for an id that is empty, too long or not printable, and for a TF_CONFIG that is no JSON.
    """
    if explicit is not None:
        return JobIdentity(_checked(explicit, "the job id"), "argument")
    if "DISTCKPT_JOB_ID" in environ:
        return JobIdentity(_checked(environ["DISTCKPT_JOB_ID"], "DISTCKPT_JOB_ID"), "DISTCKPT_JOB_ID")
    if environ.get("SLURM_JOB_ID"):
        return JobIdentity(_checked(_slurm_id(environ), "the Slurm job's id"), "Slurm")
    cluster = _cluster(environ.get("TF_CONFIG", ""))
    if cluster:
        return JobIdentity(_cluster_id(cluster), "TF_CONFIG")
    # The same for all managers of this process: the next one on a directory takes over from the one before.
    return JobIdentity(f"process-{os.getpid()}-{_THIS_PROCESS}", "none")


def _checked(job: str, what: str) -> str:
    if not 0 < len(job) <= ID_CHARACTERS_MAX or not job.isprintable():
        raise ConfigurationError(f"{what} {job[:80]!r}: must be 1 to {ID_CHARACTERS_MAX} printable characters")
    return job


def _slurm_id(environ: Mapping[str, str]) -> str:
    """A requeued job keeps SLURM_JOB_ID. Tasks of an array are jobs of their own. Numbers are a cluster's own."""
    job = environ["SLURM_JOB_ID"]
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    cluster = environ.get("SLURM_CLUSTER_NAME", "")
    number = f"{array}_{task}" if array and task else job
    return f"slurm-{cluster}-{number}" if cluster else f"slurm-{number}"


def _cluster(tf_config: str) -> dict[str, Any]:
    if not tf_config.strip():
        return {}
    try:
        cluster = json.loads(tf_config).get("cluster", {})
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"TF_CONFIG is no JSON object: {error}") from error
    if not isinstance(cluster, dict):
        raise ConfigurationError("TF_CONFIG: its cluster is no object")
    return cluster


def _cluster_id(cluster: dict[str, Any]) -> str:
    """Local addresses say nothing about which machine they are of: its name goes in with them."""
    text = json.dumps(cluster, sort_keys=True)
    addresses = [address for each in cluster.values() if isinstance(each, list) for address in each]
    if addresses and all(str(address).startswith(_LOCAL) for address in addresses):
        text += socket.gethostname()
    return f"cluster-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
