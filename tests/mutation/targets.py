"""What is mutated, and which tests are asked about it, those that are quickest to find something first.

A function is named with its class. In it: each fsync is left out; each condition of an `if` is never true; each
`_require` is left out; each condition that is returned is always true, and always false.
"""

from __future__ import annotations

from dataclasses import dataclass


def files(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


STORAGE = (
    *files("storage", "posix_durability", "posix_directory", "conformance"),
    *files("commit", "power_loss", "failing_calls"),
)
JOURNAL = (
    *files("journal", "log", "state", "compaction", "codec", "following", "liveness", "interleavings"),
    *files("commit", "zombies", "crashes"),
)
COMMIT = (*files("commit", "crashes", "zombies", "manifest", "adoption", "leases", "power_loss"), "tests/simulation")
PROTOCOL = ("tests/protocol", "tests/model_checking", "tests/simulation")
BUNDLE = files("bundle", "verify", "checksum", "strings", "table", "index", "coverage", "hostile")


@dataclass(frozen=True, slots=True)
class Target:
    path: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


def methods(kind: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{kind}.{name}" for name in names)


TARGETS = (
    Target("storage/durable.py", ("sync_folder", "make_folders"), STORAGE),
    Target(
        "storage/posix.py",
        methods("PosixStorage", "put_if_absent", "put", "publish", "is_published", "_temporary", "_remove"),
        STORAGE,
    ),
    Target("storage/posix_staged.py", methods("PosixStagedFile", "seal", "_is_there"), STORAGE),
    Target("storage/link.py", ("link_if_absent", "_settle", "_is_file"), STORAGE),
    Target("journal/log.py", methods("Journal", "begin", "settle", "check_fence", "_place", "_raise_fenced"), JOURNAL),
    Target("journal/reading.py", ("was_deleted", "read_snapshot", "_load_once"), JOURNAL),
    Target("journal/compaction.py", ("_is_deletable",), JOURNAL),
    Target("journal/state.py", ("apply", "_preserve", "_retire", "_quarantine"), JOURNAL),
    Target("journal/codec.py", ("_unframed",), JOURNAL),
    Target("commit/committer.py", ("Committer._check_shards", "Committer._heal"), COMMIT),
    Target("commit/publication.py", ("publish", "heal", "remove", "hide"), COMMIT),
    Target("commit/recovery.py", ("_discard_sealed_generations",), COMMIT),
    Target("bundle/verify.py", ("verify", "_look_at_files", "_File.faults", "_File._check_elements"), BUNDLE),
    Target("bundle/strings.py", ("_checksum_strings", "_checksum_variants", "_extend_by_stored"), BUNDLE),
    Target("bundle/table_reader.py", ("_block",), BUNDLE),
    Target("bundle/reader.py", ("BundleReader._bytes",), (*BUNDLE, "tests/bundle")),
    Target("catalog.py", ("Catalog._size_faults",), (*files("cli", "catalog"), "tests/cli")),
    Target(
        "commit/verification.py",
        ("read_manifest", "verify_states"),
        (*files("commit", "states", "manifest"), *files("cli", "catalog"), "tests/cli"),
    ),
    Target("protocol/admission.py", ("refusal", "_other_job", "_other_size"), PROTOCOL),
    Target("protocol/agent.py", ("Agent._hear",), PROTOCOL),
    Target("protocol/coordinator.py", methods("Coordinator", "_receive", "_probe_result"), PROTOCOL),
    Target("protocol/rounds.py", methods("Rounds", "_open_save", "discard_late", "commit_failed"), PROTOCOL),
    Target("protocol/outcomes.py", ("Outcomes.is_useless",), PROTOCOL),
    Target("protocol/save_round.py", methods("SaveRound", "written", "_check_same_step"), PROTOCOL),
)
