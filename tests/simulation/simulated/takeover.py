"""What a survivor does when the coordinator is gone: looks at the journal, takes the directory over, commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulated.model import SPECS, Memory, stage_share

from distckpt.commit.succession import Save, Succession, committed, is_start
from distckpt.errors import DistckptError, cause_of
from distckpt.journal.log import Journal
from distckpt.journal.records import Process as Writer
from distckpt.model import Piece, Shard, Share
from distckpt.protocol import effects, events
from distckpt.protocol.retention import NO_PRESERVATION, KeepLatest

if TYPE_CHECKING:
    from simulated.process import Process


def look(process: Process, effect: effects.LookAtJournal) -> None:
    """The holder's signs of life are those of its process; that it is gone is seen in half of the cases."""
    world = process.world
    state = Journal.open(process.disk).state
    holder = world.network.chiefs.get(state.generation)
    alive = holder is not None and holder.alive
    beats = holder is not None and alive and world.now >= holder.frozen_until
    process.handle(
        events.JournalSeen(
            effect.ordinal,
            state.generation,
            is_start=is_start(state),
            sign=str(world.now) if beats else None,
            is_gone=not alive and world.rng.random() < 0.5,
            committed=committed(state, effect.name, process.me.generation),
        )
    )


def take_over(process: Process, effect: effects.TakeOver) -> None:
    ordinal = effect.ordinal
    tag = process.snapshots.get(ordinal)
    if tag is None:
        return
    world, disk, me = process.world, process.disk, process.me
    policy = KeepLatest(world.faults.keep)
    succession = Succession(
        disk,
        me.job,
        me.generation,
        "/job",
        policy,
        NO_PRESERVATION,
        lambda _: world.reader.leased,
        lambda: world.wall_clock,
    )
    try:
        newer_than = tag[1] if process.training.salvages(ordinal) else None
        journal = succession.begin(Writer("host", process.start), newer_than)
        if journal is None:
            process.handle(events.TakeOverEnded(ordinal))
            return
        generation = journal.state.generation
        world.tell(f"{process} takes over in generation {generation}")
        world.checker.takeovers[generation] = me.generation
        world.network.chiefs[generation] = process
        whole = Share(process.worker, tuple(Piece(spec.name, spec.size_bytes) for spec in SPECS))

        def write(in_generation: int) -> Shard:
            name = f"takeover-{process.incarnation}"
            memory = Memory(tag, process.worker, world.faults.slow_tensors)
            return stage_share(disk, name, memory, whole, own=True, generation=in_generation)

        made = succession.commit(journal, Save(effect.round, tag[1], f"ckpt-{tag[1]}", {}, effect.missing), write)
    except DistckptError as error:
        world.tell(f"{process} takes over: {type(error).__name__}: {error}")
        process.handle(events.TakeOverEnded(ordinal, cause=cause_of(error, process.worker)))
    else:
        process.handle(events.TakeOverEnded(ordinal, made))
