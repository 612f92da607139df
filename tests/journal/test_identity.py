"""Which job a process belongs to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from distckpt.errors import ConfigurationError
from distckpt.journal import identity
from distckpt.journal.identity import JobIdentity, job_identity

CLUSTER = {"worker": ["a.example:1", "b.example:1"]}
SLURM = {"SLURM_JOB_ID": "17"}


def tf_config(cluster: object, index: int = 0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}


def test_what_is_nearest_to_the_user_decides() -> None:
    environ = {"DISTCKPT_JOB_ID": "run-1", **SLURM, **tf_config(CLUSTER)}
    assert job_identity("mine", environ) == JobIdentity("mine", "argument")
    assert job_identity(None, environ) == JobIdentity("run-1", "DISTCKPT_JOB_ID")
    del environ["DISTCKPT_JOB_ID"]
    assert job_identity(None, environ) == JobIdentity("slurm-17", "Slurm")
    del environ["SLURM_JOB_ID"]
    assert job_identity(None, environ).source == "TF_CONFIG"
    del environ["TF_CONFIG"]
    assert job_identity(None, environ).source == "none"


def test_a_requeued_slurm_job_is_the_same_and_a_task_of_an_array_is_its_own() -> None:
    first = job_identity(None, {**SLURM, "SLURM_RESTART_COUNT": "0"})
    assert job_identity(None, {**SLURM, "SLURM_RESTART_COUNT": "3"}) == first
    tasks = [{**SLURM, "SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": str(task)} for task in (1, 2)]
    assert [job_identity(None, task).id for task in tasks] == ["slurm-16_1", "slurm-16_2"]
    assert job_identity(None, {**SLURM, "SLURM_CLUSTER_NAME": "east"}).id == "slurm-east-17"


def test_all_workers_of_a_cluster_are_one_job_and_another_cluster_is_another() -> None:
    first = job_identity(None, tf_config(CLUSTER))
    assert job_identity(None, tf_config(CLUSTER, index=1)) == first
    assert job_identity(None, tf_config({"worker": ["a.example:1", "c.example:1"]})) != first
    assert job_identity(None, tf_config({"worker": ["a.example:1"]})) != first


def test_clusters_of_local_addresses_on_two_machines_are_two_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    local = tf_config({"worker": ["localhost:2222", "127.0.0.1:2223"]})
    ids = []
    for host in ("east", "west"):
        monkeypatch.setattr(identity.socket, "gethostname", lambda host=host: host)
        ids.append((job_identity(None, local).id, job_identity(None, tf_config(CLUSTER)).id))
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] == ids[1][1]


@pytest.mark.parametrize("config", ["", " ", "{}", '{"cluster": {}}', '{"task": {"type": "worker", "index": 0}}'])
def test_without_anything_the_process_is_the_job(config: str) -> None:
    """So that a second manager in one program takes over from the first, and another program does not."""
    code = "from distckpt.journal.identity import job_identity; print(job_identity(None, {}).id)"
    here = job_identity(None, {"TF_CONFIG": config})
    assert here.source == "none"
    assert job_identity(None, {"TF_CONFIG": config}) == here
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() != here.id


@pytest.mark.parametrize("config", ["{", "3", "[]", '{"cluster": 3}', '{"cluster": ["a:1"]}'])
def test_a_tf_config_that_is_none_is_named(config: str) -> None:
    with pytest.raises(ConfigurationError, match="TF_CONFIG"):
        job_identity(None, {"TF_CONFIG": config})


@pytest.mark.parametrize("job", ["", "x" * 201, "two\nlines", "bell\a"])
def test_an_id_that_cannot_be_shown_is_refused(job: str) -> None:
    with pytest.raises(ConfigurationError, match="the job id"):
        job_identity(job, {})
    with pytest.raises(ConfigurationError, match="DISTCKPT_JOB_ID"):
        job_identity(None, {"DISTCKPT_JOB_ID": job})
