"""`distckpt.Catalog`: what a directory holds, read without taking part."""

import shutil
from typing import Any

import pytest

import distckpt
from distckpt import errors


def test_a_job_that_has_not_saved_has_no_checkpoints(job: Any) -> None:
    catalog = distckpt.Catalog(job.directory)
    assert catalog.checkpoints == ()
    assert catalog.latest is None
    with pytest.raises(errors.ConfigurationError, match="no checkpoint of step 3; there are: none"):
        catalog.verify(3)


def test_each_question_is_answered_anew(job: Any) -> None:
    catalog = distckpt.Catalog(job.directory)
    for step in (1, 2):
        job.save(step)
        assert catalog.latest is not None
        assert catalog.latest.step == step
    assert [each.step for each in catalog.checkpoints] == [1, 2]


def test_the_manifest_says_who_wrote_what(job: Any) -> None:
    job.save(5, {"loss": 2.0})
    manifest = distckpt.Catalog(job.directory).manifest(5)
    assert manifest is not None
    assert (manifest.step, manifest.job, manifest.workers) == (5, "digits", (0, 1))
    assert manifest.metrics == {"loss": 2.0}


def test_entries_are_every_tensor_with_its_data_file(job: Any) -> None:
    job.save(5)
    located = distckpt.Catalog(job.directory).entries(5)
    assert [(shard, entry.name, entry.shape) for shard, entry in located] == [
        (0, "layer-0", (1000,)),
        (1, "layer-1", (1000,)),
    ]


def test_verify_finds_an_index_exchanged_for_another_sound_one(job: Any) -> None:
    job.save(5)
    job.save(6)
    (job.directory / "ckpt-6.index").write_bytes((job.directory / "ckpt-5.index").read_bytes())
    faults = distckpt.Catalog(job.directory).verify(6)
    assert "it is not the index that was committed: its sha256 is another" in [fault.detail for fault in faults]


def test_a_checkpoint_that_was_replaced_whole_is_not_the_one_that_was_committed(job: Any) -> None:
    """Everything fits together, and none of it is what the journal says."""
    job.save(5)
    job.save(6)
    for suffix in ("data-00000-of-00002", "data-00001-of-00002", "index", "manifest.json"):
        (job.directory / f"ckpt-6.{suffix}").write_bytes((job.directory / f"ckpt-5.{suffix}").read_bytes())
    faults = distckpt.Catalog(job.directory).verify(6)
    assert {fault.file for fault in faults} == {"ckpt-6.manifest.json"}  # its size may differ too: a time stands in it
    assert "it is not the manifest that was committed: its sha256 is another" in [fault.detail for fault in faults]


def test_verify_misses_no_manifest_where_plain_tensorflow_saved(job: Any) -> None:
    job.save(5)
    (job.directory / "ckpt-5.manifest.json").unlink()
    shutil.rmtree(job.directory / ".distckpt")
    assert distckpt.Catalog(job.directory).verify(5) == []
