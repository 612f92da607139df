"""TF_CONFIG from what a scheduler or launcher tells each process about its place. Pure: a function of the environment.

Promise: all processes of one job get the same cluster, in the order of their ranks, or each gets an error that says
what was looked for; never a cluster that is only guessed. Where each name comes from:

- Kubernetes, indexed Jobs and JobSets: JOB_COMPLETION_INDEX (kubernetes.io, "Job", completion mode).
- OpenMPI: OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_SIZE (docs.open-mpi.org, "Environment variables set by mpirun").
- Hydra, which MPICH and Intel MPI start with: PMI_RANK, PMI_SIZE, MPI_LOCALNRANKS.
- Flux: FLUX_TASK_RANK, FLUX_JOB_SIZE (flux-environment(7)).
- Slurm, in a step: SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE (srun(1), "Output environment").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distckpt.errors import ConfigurationError
from distckpt.launch.cluster import HOST, cluster_config
from distckpt.launch.hostlist import expand

PORT = 2222
PORT_MAX = 65_535
_TASKS = re.compile(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?")

LOOKED_FOR = (
    "TF_CONFIG, JOB_COMPLETION_INDEX (Kubernetes), OMPI_COMM_WORLD_RANK (OpenMPI), PMI_RANK (MPICH, Intel MPI), "
    "FLUX_TASK_RANK (Flux), SLURM_PROCID with SLURM_STEP_NODELIST (Slurm, under srun)"
)


@dataclass(frozen=True, slots=True)
class _Launcher:
    """The names of its variables; an empty name where it tells no such thing. `local` has the tasks on this host."""

    name: str
    rank: str
    size: str = ""
    local: str = ""


# The MPI launchers before Slurm: mpirun inside a Slurm job starts its daemons with srun, and then its own ranks count.
_LAUNCHERS = (
    _Launcher("Kubernetes", "JOB_COMPLETION_INDEX"),
    _Launcher("OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    _Launcher("MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    _Launcher("Flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    _Launcher("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def resolve(environ: Mapping[str, str], *, hosts: str | None = None, port: int = PORT) -> str:
    """The value of TF_CONFIG for this process, as JSON.

    `hosts` names one host for each rank, in order, as `distckpt.launch.hostlist` reads them; one that comes several
    times has as many workers. A host's workers listen on `port` and those after it. Without `hosts` a TF_CONFIG that is
    set already is returned as it is. Raises ConfigurationError where the place of this process cannot be told.
    """
    if hosts is None and environ.get("TF_CONFIG"):
        return _checked(environ["TF_CONFIG"])
    launcher = next((each for each in _LAUNCHERS if _tells(each, environ, hosts)), None)
    if launcher is None:
        raise ConfigurationError(_nothing_found(environ))
    rank = _number(environ, launcher.rank)
    named = expand(hosts) if hosts is not None else _told_hosts(launcher, environ)
    _check_place(launcher, environ, rank, len(named))
    return cluster_config(_addresses(named, port), rank)


def _tells(launcher: _Launcher, environ: Mapping[str, str], hosts: str | None) -> bool:
    """A batch script has SLURM_PROCID too, and is no task: only a step has the list of its nodes."""
    in_a_step = launcher.name != "Slurm" or hosts is not None or "SLURM_STEP_NODELIST" in environ
    return launcher.rank in environ and in_a_step


def _nothing_found(environ: Mapping[str, str]) -> str:
    if "SLURM_JOB_ID" in environ:
        return "this is a Slurm job, and no task of a step (no SLURM_STEP_NODELIST): start the workers with srun"
    return f"nothing tells this process its place in a cluster: looked for {LOOKED_FOR}"


def _told_hosts(launcher: _Launcher, environ: Mapping[str, str]) -> tuple[str, ...]:
    """One for each rank."""
    if launcher.name == "Slurm":
        return _slurm_hosts(environ)
    if launcher.local and environ.get(launcher.size, "") == environ.get(launcher.local):
        return (HOST,) * _number(environ, launcher.size)
    raise ConfigurationError(
        f"{launcher.name} tells this process that it is number {environ[launcher.rank]}, and not which hosts the "
        f"others are on: say --hosts, one for each rank, as in --hosts 'node[1-4]'"
    )


def _slurm_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    nodes = expand(environ["SLURM_STEP_NODELIST"])
    tasks = _slurm_tasks(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if len(tasks) != len(nodes):
        raise ConfigurationError(
            f"SLURM_STEP_TASKS_PER_NODE={environ.get('SLURM_STEP_TASKS_PER_NODE')!r} is not one number for each of the "
            f"{len(nodes)} nodes in SLURM_STEP_NODELIST={environ['SLURM_STEP_NODELIST']!r}"
        )
    distribution = environ.get("SLURM_DISTRIBUTION", "block")
    if max(tasks) > 1 and not distribution.startswith("block"):
        raise ConfigurationError(
            f"SLURM_DISTRIBUTION={distribution}: which rank is on which node is only known for --distribution=block"
        )
    return tuple(node for node, count in zip(nodes, tasks, strict=True) for _ in range(count))


def _slurm_tasks(text: str) -> list[int]:
    """`2(x3),1` is 2, 2, 2, 1 (sbatch(1), SLURM_TASKS_PER_NODE); nothing where it is not of that form."""
    parts = [_TASKS.fullmatch(part) for part in text.split(",")]
    return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))] if all(parts) else []


def _check_place(launcher: _Launcher, environ: Mapping[str, str], rank: int, hosts: int) -> None:
    size = _number(environ, launcher.size) if launcher.size in environ else hosts
    if size != hosts:
        raise ConfigurationError(f"{launcher.size}={size}, and {hosts} hosts are named: one is needed for each rank")
    if rank >= hosts:
        raise ConfigurationError(
            f"{launcher.rank}={rank}, and {hosts} hosts are named: one is needed for each rank, from 0 on"
        )


def _addresses(hosts: Sequence[str], port: int) -> list[str]:
    """The n-th worker of a host listens on `port` + n."""
    seen: Counter[str] = Counter()
    addresses = []
    for host in hosts:
        addresses.append(f"{host}:{port + seen[host]}")
        seen[host] += 1
    if port + max(seen.values()) - 1 > PORT_MAX:
        raise ConfigurationError(f"{max(seen.values())} workers on one host do not fit above --port {port}")
    return addresses


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{name}={text!r}: a whole number was expected")
    return int(text)


def _checked(text: str) -> str:
    try:
        cluster = json.loads(text)["cluster"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"TF_CONFIG is set, and is no JSON object with a cluster: {text[:200]!r}") from error
    if not isinstance(cluster, dict):
        raise ConfigurationError(f"TF_CONFIG is set, and its cluster is no object: {text[:200]!r}")
    return text
