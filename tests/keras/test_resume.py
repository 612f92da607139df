"""A `fit` that is killed in the middle of an epoch ends as one that nobody disturbed, bit for bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("training.py")
BATCHES_PER_EPOCH = 5


@pytest.mark.parametrize(("flavour", "replicas"), [("keras", 1), ("keras", 2), ("tf_keras", 2)])
def test_a_killed_fit_goes_on_in_the_middle_of_its_epoch(flavour: str, replicas: int, run: Any, tmp_path: Path) -> None:
    def train(name: str, die: int) -> Any:
        told = {"flavour": flavour, "replicas": replicas, "directory": str(tmp_path / name), "die": die}
        done = run(str(SCRIPT), json.dumps(told))
        if die:
            assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
            return None
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    undisturbed = train("undisturbed", die=0)
    train("killed", die=10)  # the last commit is that of batch 9, the fourth of the second epoch
    resumed = train("killed", die=0)
    assert resumed["batches"] == 2 * BATCHES_PER_EPOCH, "only the second and the third epoch, its skipped batches too"
    assert resumed["weights"] == undisturbed["weights"]
    assert resumed["weights"] == resumed["trained"] == resumed["last"]
    assert resumed["best"] == undisturbed["best"] != resumed["last"]
    assert resumed["epochs"] == [0, 1, 2]
    # The metrics' sums are put together from the replicas' in another order: the last bit may differ.
    assert set(resumed["history"]) == {"loss", "mae", "val_loss", "val_mae"}
    for name, values in undisturbed["history"].items():
        assert resumed["history"][name] == (values if replicas == 1 else pytest.approx(values, rel=1e-6))
