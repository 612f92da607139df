"""deploy/kubernetes: valid by the published schemas, and what its containers run really trains."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from orchestrators.container import (
    FULL,
    ROOT,
    Container,
    Manifest,
    StartContainer,
    container_environment,
    expanded,
    manifest,
)

from distckpt import Catalog
from distckpt.launch.hostlist import expand

KUBERNETES = "1.32"
JOBSET = "kubernetes/jobset/jobset.yaml"
TFJOB = "kubernetes/tfjob/tfjob.yaml"
PLAIN = ["kubernetes/base/claim.yaml", "kubernetes/base/networkpolicy.yaml"]
KUSTOMIZATIONS = ["kubernetes/base", "kubernetes/jobset", "kubernetes/tfjob"]


def validate(value: Manifest) -> None:
    """Against Kubernetes' own OpenAPI schema; fields that it does not know are errors."""
    kubernetes_validate.validate(value, KUBERNETES, strict=True)


def jobs_template() -> Manifest:
    (replicated,) = manifest(JOBSET)["spec"]["replicatedJobs"]
    return dict(replicated["template"])


def tfjobs_template() -> Manifest:
    return dict(manifest(TFJOB)["spec"]["tfReplicaSpecs"]["Worker"]["template"])


def pods_template(path: str) -> Manifest:
    return tfjobs_template() if path == TFJOB else dict(jobs_template()["spec"]["template"])


@pytest.mark.parametrize("path", PLAIN)
def test_what_kubernetes_itself_knows_is_valid(path: str) -> None:
    validate(manifest(path))


def test_the_jobset_is_valid() -> None:
    """The JobSet by its published model, the Job in it by Kubernetes' schema. The model drops what it does not know."""
    value = manifest(JOBSET)
    read = JobsetV1alpha2JobSet.from_dict(value)
    assert read is not None
    assert read.to_dict() == value
    validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, **jobs_template()})


def test_the_tfjob_is_valid() -> None:
    """By the fields of kubeflow.org/v1 as its SDK 1.9.4 lists them; the pod in it by Kubernetes' schema."""
    value = manifest(TFJOB)
    assert (value["apiVersion"], value["kind"]) == ("kubeflow.org/v1", "TFJob")
    spec = value["spec"]
    assert set(spec) <= {"runPolicy", "successPolicy", "tfReplicaSpecs", "enableDynamicWorker"}
    assert spec["successPolicy"] in ("", "AllWorkers")
    policy = {"cleanPodPolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit", "suspend"}
    assert set(spec["runPolicy"]) <= policy
    assert spec["runPolicy"]["cleanPodPolicy"] in ("All", "Running", "None")
    for name, replicas in spec["tfReplicaSpecs"].items():
        assert name in ("Chief", "Master", "Worker", "PS", "Evaluator")
        assert set(replicas) == {"replicas", "restartPolicy", "template"}
        assert replicas["restartPolicy"] in ("Always", "OnFailure", "Never", "ExitCode")
        validate({"apiVersion": "v1", "kind": "PodTemplate", "template": replicas["template"]})


def test_a_misspelled_field_would_be_found() -> None:
    claim = manifest("kubernetes/base/claim.yaml")
    claim["spec"]["accessMode"] = claim["spec"].pop("accessModes")
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(claim)
    value = manifest(JOBSET)
    value["spec"]["failurePolicy"]["maxRestart"] = 3
    assert JobsetV1alpha2JobSet.from_dict(value).to_dict() != value


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_a_kustomization_names_files_that_are_there(folder: str) -> None:
    kustomization = manifest(f"{folder}/kustomization.yaml")
    assert kustomization["kind"] == "Kustomization"
    for resource in kustomization["resources"]:
        assert (ROOT / "deploy" / folder / resource).exists()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders kustomizations, is not installed")
@pytest.mark.parametrize("kind", ["jobset", "tfjob"])
def test_kubectl_renders_a_kustomization_with_the_users_image(kind: str) -> None:
    folder = ROOT / "deploy" / "kubernetes" / kind
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == 3
    assert "image: registry.example.com/training:1" in done.stdout


@pytest.mark.parametrize("path", [JOBSET, TFJOB])
def test_volumes_labels_and_deadlines_fit_together(path: str) -> None:
    template = pods_template(path)
    (container,) = template["spec"]["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    claim = manifest("kubernetes/base/claim.yaml")
    assert volumes["checkpoints"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert any(each.startswith(mounts["checkpoints"] + "/") for each in container["args"])
    selected = manifest("kubernetes/base/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"]
    assert template["metadata"]["labels"].items() >= selected.items()
    assert (
        container["livenessProbe"]["terminationGracePeriodSeconds"] < template["spec"]["terminationGracePeriodSeconds"]
    )


def test_no_worker_waits_for_a_name_that_is_published_when_it_is_ready() -> None:
    """A worker is ready once it has found the others. The training operator's services know ready pods alone."""
    (tfjobs,) = tfjobs_template()["spec"]["containers"]
    assert "readinessProbe" not in tfjobs
    (jobsets,) = pods_template(JOBSET)["spec"]["containers"]
    assert manifest(JOBSET)["spec"]["network"]["publishNotReadyAddresses"] is True
    assert jobsets["readinessProbe"]["exec"]["command"][-1] in jobsets["args"], "it asks about the training's directory"


def test_a_disruption_restarts_all_and_spends_nothing() -> None:
    """A pod that is disrupted, or ends with 143, fails its Job with the reason for which the JobSet does not count."""
    job = jobs_template()["spec"]
    rules = job["podFailurePolicy"]["rules"]
    assert all(rule["action"] == "FailJob" for rule in rules)
    assert {"type": "DisruptionTarget", "status": "True"} in rules[0]["onPodConditions"]
    assert rules[1]["onExitCodes"]["values"] == [143]
    assert rules[1]["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    (rule,) = manifest(JOBSET)["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never", "Kubernetes takes a podFailurePolicy with nothing else"


class Cluster:
    """Starts the pods of one of the manifests, each as a process."""

    def __init__(self, path: str, start: StartContainer, folder: Path, port: int) -> None:
        self._start = start
        self._folder = folder
        self._port = port
        (self.container,) = pods_template(path)["spec"]["containers"]
        self.volume = folder / "checkpoints"
        self.volume.mkdir()

    def jobset_pods(self, attempt: int = 0) -> list[Container]:
        """JobSet and Job: names and annotations as their controllers make them, JOB_COMPLETION_INDEX injected."""
        value = manifest(JOBSET)
        name, job = value["metadata"]["name"], jobs_template()["spec"]
        hosts = [f"{name}-worker-0-{index}.{name}" for index in range(job["completions"])]
        pods = []
        for index in range(job["completions"]):
            metadata = {
                "metadata.annotations['jobset.sigs.k8s.io/jobset-name']": name,
                "metadata.namespace": "research",
            }
            environ = container_environment(self.container, metadata, {"JOB_COMPLETION_INDEX": str(index)})
            pods.append(self._pod(attempt, index, environ, hosts))
        return pods

    def tfjob_pods(self, attempt: int = 0) -> list[Container]:
        """The training operator: TF_CONFIG as it sets it, the addresses those of its services."""
        value = manifest(TFJOB)
        name, replicas = value["metadata"]["name"], value["spec"]["tfReplicaSpecs"]["Worker"]["replicas"]
        addresses = [f"127.0.0.1:{self._port + index}" for index in range(replicas)]
        pods = []
        for index in range(replicas):
            metadata = {"metadata.labels['training.kubeflow.org/job-name']": name, "metadata.namespace": "research"}
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": addresses}, "task": task, "environment": "cloud"}
            environ = container_environment(self.container, metadata, {"TF_CONFIG": json.dumps(config)})
            pods.append(self._pod(attempt, index, environ, []))
        return pods

    def probe(self, name: str, pod: Container) -> int:
        """The exit code of one of the container's probes, run beside the pod's process."""
        command = [expanded(each, pod.environ) for each in self.container[name]["exec"]["command"]]
        return self._start(self._local(command), pod.environ).wait()

    def _pod(self, attempt: int, index: int, environ: dict[str, str], hosts: list[str]) -> Container:
        tmp = self._folder / f"tmp-{attempt}-{index}"
        tmp.mkdir()
        environ["DISTCKPT_STEP_FILE"] = environ["DISTCKPT_STEP_FILE"].replace("/tmp", str(tmp))
        command = [expanded(each, environ) for each in (*self.container["command"], *self.container["args"])]
        named = [each for each in command if each.startswith("--hosts=")]
        assert [list(expand(each.removeprefix("--hosts="))) for each in named] == ([hosts] if hosts else [])
        for option in named:  # no name server here: the pods' names become the loopback, their port 2222 a free one
            at = command.index(option)
            command[at : at + 1] = [f"--hosts={','.join(['127.0.0.1'] * len(hosts))}", f"--port={self._port}"]
        return self._start(self._local(command), environ)

    def _local(self, command: list[str]) -> list[str]:
        return [each.replace("/checkpoints", str(self.volume)) for each in command]


def killed_and_restarted(cluster: Cluster, start_pods: Any) -> None:
    """One pod is killed in the middle: the other ends too, and the next pods go on from a commit to the end."""
    pods = start_pods(0)
    pods[0].wait_for("step 10:")
    for name in {"readinessProbe", "livenessProbe"} & set(cluster.container):
        assert cluster.probe(name, pods[1]) == 0
    pods[1].send(signal.SIGKILL)
    assert [pod.wait() for pod in pods] == [1, -signal.SIGKILL]
    pods = start_pods(1)
    for pod in pods:
        pod.wait_for(" steps are done")
        assert int(pod.lines[-1].split()[0]) >= 10, "it goes on from a commit"
    assert [pod.wait() for pod in pods] == [0, 0], "the job is complete"
    directory = next(each for each in cluster.container["args"] if each.startswith("/checkpoints/"))
    catalog = Catalog(directory.replace("/checkpoints", str(cluster.volume)))
    assert catalog.latest is not None
    assert catalog.latest.step == int(cluster.container["args"][-1])
    assert catalog.verify(catalog.latest.step) == []


def test_the_jobsets_containers_train_are_killed_and_resume(start: StartContainer, tmp_path: Path, port: int) -> None:
    cluster = Cluster(JOBSET, start, tmp_path, port)
    killed_and_restarted(cluster, cluster.jobset_pods)


@FULL
def test_the_tfjobs_containers_train_are_killed_and_resume(start: StartContainer, tmp_path: Path, port: int) -> None:
    cluster = Cluster(TFJOB, start, tmp_path, port)
    killed_and_restarted(cluster, cluster.tfjob_pods)
