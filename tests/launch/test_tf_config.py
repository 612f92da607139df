"""TF_CONFIG from the environments of schedulers and launchers.

The Slurm environment is what Slurm 22.05 set for a step of three tasks on two nodes; the others' are as documented.
"""

import json
from typing import Any

import pytest

from distckpt.errors import ConfigurationError
from distckpt.launch.tf_config import resolve

SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NODELIST": "node[001-002]",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_DISTRIBUTION": "block",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NODELIST": "node[001-002]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}
OPENMPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"}


def resolved(environ: dict[str, str], **options: Any) -> tuple[int, list[str]]:
    """This worker's index, and the addresses of all."""
    config = json.loads(resolve(environ, **options))
    assert config["task"]["type"] == "worker"
    assert set(config["cluster"]) == {"worker"}
    return config["task"]["index"], config["cluster"]["worker"]


def error(environ: dict[str, str], **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        resolve(environ, **options)
    return str(refused.value)


def test_slurms_step_tells_all() -> None:
    assert resolved(SLURM) == (2, ["node001:2222", "node001:2223", "node002:2222"])


def test_every_task_of_a_step_finds_the_same_cluster_and_its_own_place_in_it() -> None:
    places = [resolved({**SLURM, "SLURM_PROCID": str(rank)}, port=9000) for rank in range(3)]
    assert [index for index, _ in places] == [0, 1, 2]
    assert {tuple(addresses) for _, addresses in places} == {("node001:9000", "node001:9001", "node002:9000")}


def test_repeated_counts_of_tasks_are_read() -> None:
    step = {"SLURM_STEP_NODELIST": "n[1-4]", "SLURM_STEP_TASKS_PER_NODE": "1(x3),2", "SLURM_STEP_NUM_TASKS": "5"}
    assert resolved({**SLURM, **step}, port=1)[1] == ["n1:1", "n2:1", "n3:1", "n4:1", "n4:2"]


def test_a_batch_script_is_no_worker() -> None:
    batch = {name: value for name, value in SLURM.items() if "STEP" not in name}
    assert "start the workers with srun" in error({**batch, "SLURM_PROCID": "0"})


def test_tasks_dealt_out_in_another_order_are_not_guessed_at() -> None:
    assert "--distribution=block" in error({**SLURM, "SLURM_DISTRIBUTION": "cyclic"})
    one_each = {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    assert resolved({**SLURM, **one_each, "SLURM_DISTRIBUTION": "cyclic"})[0] == 1


def test_a_step_that_contradicts_itself_is_refused() -> None:
    assert "SLURM_STEP_TASKS_PER_NODE='3'" in error({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "3"})
    assert "SLURM_STEP_TASKS_PER_NODE='two,1'" in error({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "two,1"})
    assert "SLURM_STEP_NUM_TASKS=4" in error({**SLURM, "SLURM_STEP_NUM_TASKS": "4"})
    assert "SLURM_PROCID='-1'" in error({**SLURM, "SLURM_PROCID": "-1"})
    assert "SLURM_PROCID=3" in error({**SLURM, "SLURM_PROCID": "3"})


def test_an_indexed_job_of_kubernetes_has_the_hosts_that_its_manifest_names() -> None:
    config = resolved({"JOB_COMPLETION_INDEX": "1"}, hosts="train-worker-0-[0-2].train")
    assert config == (1, [f"train-worker-0-{index}.train:2222" for index in range(3)])


def test_kubernetes_does_not_tell_the_hosts_and_the_error_says_what_to_do() -> None:
    assert "JOB_COMPLETION_INDEX" not in resolve({"JOB_COMPLETION_INDEX": "0"}, hosts="a")
    assert "say --hosts" in error({"JOB_COMPLETION_INDEX": "0"})
    assert "JOB_COMPLETION_INDEX=2" in error({"JOB_COMPLETION_INDEX": "2"}, hosts="a,b")


@pytest.mark.parametrize("environ", [OPENMPI, HYDRA], ids=["OpenMPI", "Hydra"])
def test_an_mpi_launcher_on_one_machine_tells_all(environ: dict[str, str]) -> None:
    assert resolved(environ) == (1, ["127.0.0.1:2222", "127.0.0.1:2223"])


@pytest.mark.parametrize("environ", [OPENMPI, HYDRA], ids=["OpenMPI", "Hydra"])
def test_an_mpi_launcher_on_several_machines_does_not_tell_them(environ: dict[str, str]) -> None:
    several = {**environ, "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "MPI_LOCALNRANKS": "1"}
    assert "say --hosts" in error(several)
    assert resolved(several, hosts="a,b") == (1, ["a:2222", "b:2222"])
    assert "3 hosts are named" in error(several, hosts="a,b,c")


def test_flux_has_ranks() -> None:
    assert resolved({"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2"}, hosts="a[0-1]") == (1, ["a0:2222", "a1:2222"])


def test_mpiruns_ranks_count_and_not_those_of_the_slurm_step_that_started_its_daemons() -> None:
    assert resolved({**SLURM, **OPENMPI}) == (1, ["127.0.0.1:2222", "127.0.0.1:2223"])


def test_a_tf_config_that_is_set_stays() -> None:
    set_already = '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}'
    assert resolve({**SLURM, "TF_CONFIG": set_already}) == set_already
    assert resolved({**SLURM, "TF_CONFIG": set_already}, hosts="a,b,c")[1] == ["a:2222", "b:2222", "c:2222"]


@pytest.mark.parametrize("text", ["nonsense", "[]", '"text"', "{}", '{"cluster": []}'])
def test_a_tf_config_that_is_none_is_refused(text: str) -> None:
    assert "TF_CONFIG is set" in error({"TF_CONFIG": text})


def test_where_nothing_is_told_the_error_says_what_was_looked_for() -> None:
    said = error({"TF_CONFIG": ""})
    for name in ("JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "FLUX_TASK_RANK", "SLURM_PROCID"):
        assert name in said


def test_ports_end_where_ports_end() -> None:
    assert resolved(SLURM, port=65_534)[1][1] == "node001:65535"
    assert "do not fit above --port 65535" in error(SLURM, port=65_535)
