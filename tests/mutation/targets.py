"""What is mutated, and which tests are asked about it, those that are quickest to find something first.

A function is named with its class. In it: each fsync, and each call of a check (mutants.CHECKS), is left out; each
condition of an `if` is never true; each condition that is returned, or filters in a comprehension, is always true, and
always false; each right side of a union is left out.
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
SALVAGE = (*files("protocol", "salvage", "takeover", "transcripts"), *PROTOCOL)
CROSS_CHECK = (*files("protocol", "cross_check"), *files("runtime", "cross_check"), "tests/simulation")
LOADER = (*files("bundle", "loader"), *BUNDLE, *files("runtime", "restoring"))
RPC = (*files("rpc", "trust", "hostile", "convert", "wire"), "tests/rpc")
RETENTION = (*files("protocol", "retention"), *files("journal", "leases"), *COMMIT)


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
        methods(
            "PosixStorage",
            *("put_if_absent", "put", "publish", "is_published", "together", "_sync_names_in_time"),
            *("_temporary", "_remove"),
        ),
        STORAGE,
    ),
    Target("storage/memory.py", methods("MemoryStorage", "under_own_names"), files("storage", "conformance")),
    Target("storage/write_back.py", ("begin_write_back",), files("storage", "write_back")),
    Target("storage/posix_staged.py", methods("PosixStagedFile", "seal", "_is_there"), STORAGE),
    Target("storage/link.py", ("link_if_absent", "_settle", "_is_file"), STORAGE),
    Target("journal/log.py", methods("Journal", "begin", "settle", "check_fence", "_place", "_raise_fenced"), JOURNAL),
    Target("journal/reading.py", ("was_deleted", "read_snapshot", "_load_once"), JOURNAL),
    Target("journal/compaction.py", ("_is_deletable",), JOURNAL),
    Target("journal/state.py", ("apply", "_preserve", "_retire", "_quarantine", "_remembered"), JOURNAL),
    Target("journal/codec.py", ("_unframed",), JOURNAL),
    Target("storage/keys.py", ("check_key", "check_handle", "is_reserved", "_check_name"), STORAGE),
    Target(
        "commit/committer.py",
        methods("Committer", "commit", "_check_shards", "_append", "_retain", "_clean_up", "quarantine", "_heal"),
        (
            *files("commit", "manifest", "states", "preservation", "announcement"),
            *files("runtime", "cross_check"),
            *COMMIT,
        ),
    ),
    Target("commit/states.py", ("check_staged",), files("commit", "states")),
    Target(
        "commit/publication.py",
        (
            *("publish", "heal", "unpublish", "remove", "removal_is_safe", "hide"),
            *("_publish_file", "_unpublish_file", "_discard_file"),
        ),
        COMMIT,
    ),
    Target("commit/removal.py", ("remove_retired", "forget_unsafe"), (*files("commit", "leases"), *COMMIT)),
    Target(
        "commit/succession.py",
        (*methods("Succession", "begin", "commit"), "committed", "is_start"),
        (*files("commit", "succession"), *files("protocol", "takeover"), "tests/model_checking", "tests/simulation"),
    ),
    Target("commit/takeover.py", ("taken_over", "_admit"), files("cli", "recover", "prune", "commands")),
    Target("journal/leases.py", methods("LeaseWatch", "held", "observe", "_living", "_sight", "_over"), RETENTION),
    Target("protocol/retention.py", ("Sparing.spared", "Sparing.kept", "select_retired"), RETENTION),
    Target("commit/recovery.py", ("_discard_sealed_generations",), COMMIT),
    Target("bundle/verify.py", ("read_index", "_look_at_files", "_File.faults", "_File._check_elements"), BUNDLE),
    Target("bundle/loader.py", methods("Loader", "verify", "take", "_kept_of"), LOADER),
    Target(
        "bundle/coverage.py",
        ("check_coverage", "_shared_bytes", "_incomplete", "_uncovered", "_differences"),
        (*files("bundle", "coverage"), *BUNDLE),
    ),
    Target("bundle/strings.py", ("_checksum_strings", "_checksum_variants", "_extend_by_stored"), BUNDLE),
    Target("bundle/table_reader.py", ("_block",), BUNDLE),
    Target("bundle/reader.py", ("BundleReader._bytes",), (*BUNDLE, "tests/bundle")),
    Target("catalog.py", ("Catalog._size_faults",), (*files("cli", "catalog"), "tests/cli")),
    Target(
        "commit/verification.py",
        ("under_own_names", "read_manifest", "verify_states"),
        (*files("commit", "states", "manifest", "zombies"), *files("cli", "catalog"), "tests/cli"),
    ),
    Target("protocol/admission.py", ("refusal", "_other_job", "_other_size"), PROTOCOL),
    Target("protocol/agent.py", methods("Agent", "_hear"), PROTOCOL),
    Target(
        "protocol/agent.py", methods("Agent", "_check_waits", "_may_salvage_alone", "_take_over", "_salvage"), SALVAGE
    ),
    Target(
        "protocol/takeover.py", methods("Takeover", "seen", "ended", "_changed", "_watch", "_wait_for_turn"), SALVAGE
    ),
    Target("protocol/salvage.py", methods("Salvages", "told", "advance", "_newest_common", "all_may_go"), SALVAGE),
    Target(
        "protocol/agent_salvage.py",
        methods(
            "Keeping",
            *("may_salvage_alone", "has_newer_than", "keep", "progress", "requested", "salvage", "release_until"),
            *("settle", "_release"),
        ),
        SALVAGE,
    ),
    Target("protocol/cross_check.py", ("portion", "differences"), CROSS_CHECK),
    Target("protocol/staged.py", ("foreign_handle",), RPC),
    Target("runtime/cross_check.py", ("CrossChecker.check",), CROSS_CHECK),
    Target(
        "runtime/unchanged.py",
        ("stage", *methods("Unchanged", "sort", "keep", "_link")),
        (*files("runtime", "unchanged"), "tests/simulation"),
    ),
    Target("runtime/successor.py", methods("Successor", "_commit"), files("runtime", "salvage")),
    Target(
        "rpc/checks.py",
        ("count", "counts", "shape", "worker", "name", "optional_name", "text", "finite", "seconds"),
        RPC,
    ),
    Target(
        "rpc/servicer.py",
        (*methods("Servicer", "Connect", "_hear"), "_whose", "_admit", "_check_sender", "_check_own"),
        RPC,
    ),
    Target("rpc/fragments.py", ("cut", "Assembly.add"), (*files("rpc", "fragments"), *RPC)),
    Target("rpc/outbox.py", ("Requests.__next__", "Outbox.take_heartbeat"), (*files("rpc", "fragments", "wire"), *RPC)),
    Target("protocol/coordinator.py", methods("Coordinator", "_receive", "_probe_result"), PROTOCOL),
    Target(
        "protocol/rounds.py",
        methods("Rounds", "announce", "_salvages", "_make_way", "_open_save", "discard_late", "commit_failed"),
        PROTOCOL,
    ),
    Target("protocol/outcomes.py", ("Outcomes.is_useless",), PROTOCOL),
    Target("protocol/save_round.py", methods("SaveRound", "written", "_check_same_step"), PROTOCOL),
)
