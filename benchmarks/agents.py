"""`make bench-agents`: how long a save of very many workers takes, apart from the writing of their tensors.

One process hosts the coordinator as a chief does. Others drive the agents: each has its own TLS connection and
certificate, speaks the real protocol, and writes a small file as its share; TensorFlow and the threads of a real agent
are left out. All of it shares this machine. Prints a table and, with --json, writes the figures.

    joined: from the first connection to the last worker's being taken in
    agreement: from the first announcement to the last worker's hearing the decision
    commit: from the last share's being written to the last worker's hearing of the commit
    CPU: processor time of a save, of the chief's process, and of the processes that hold the agents

Where few cores are shared, the agents' processor time, which real workers spend on machines of their own, is part of
the times; the chief's is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from distckpt.bundle.payload import Payload
from distckpt.bundle.writer import write_share
from distckpt.model import CHIEF, Shard
from distckpt.options import Options
from distckpt.protocol import effects, events
from distckpt.protocol.agent import Agent
from distckpt.protocol.messages import AgentEnvelope, Committed, CoordinatorEnvelope, Join, Sender, Welcome
from distckpt.protocol.retention import KeepLatest
from distckpt.protocol.staged import staged_name
from distckpt.rpc import convert, values
from distckpt.rpc.client import CLIENT_OPTIONS, STREAM_S
from distckpt.rpc.rendezvous import Rendezvous, read_rendezvous
from distckpt.rpc.transport import keepalive
from distckpt.rpc.v1 import coordination_pb2 as pb
from distckpt.rpc.v1 import coordination_pb2_grpc as pb_grpc
from distckpt.runtime.chief import ChiefSide, begin_generation
from distckpt.runtime.joining import write_probe
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns

SHARE = np.zeros(64, np.uint8)
DT_UINT8 = 4
SAVE_DEADLINE_S = 120.0
BACKOFF_S = 2.0
TIMES = (
    "joined_s",
    "agreement_s",
    "worst_agreement_s",
    "commit_s",
    "worst_commit_s",
    "chief_cpu_s",
    "agents_cpu_s",
)
HEADS = (
    "WORKERS",
    "JOINED",
    "AGREEMENT",
    "WORST",
    "COMMIT",
    "WORST",
    "CHIEF'S CPU",
    "AGENTS' CPU",
    "MESSAGES/WORKER",
    "RECONNECTED",
    "CHIEF ALONE",
    "CHIEF",
)


class LightAgent:
    """An agent without threads: its machine, fed on an event loop. `said` counts its messages."""

    def __init__(self, worker: int, world: int, storage: PosixStorage, job: str, generation: int) -> None:
        self.me = Sender(job, generation, worker, f"{worker:032x}")
        join = Join(world, "localhost", os.getpid(), write_probe(storage, self.me))
        self.machine = Agent(self.me, join, Options().deadlines, "the benchmark's coordinator")
        self.world = world
        self.storage = storage
        self.said = self.reconnected = 0
        self.joined_at = self.decided_at = self.written_at = self.committed_at = 0.0
        self.name = ""
        self.joined, self.ended = asyncio.Event(), asyncio.Event()
        self.unsent: asyncio.Queue[pb.AgentEnvelope] = asyncio.Queue()

    async def connect(self, rendezvous: Rendezvous) -> None:
        credentials = rendezvous.workers[self.me.worker]
        silence_s = Options().deadlines.for_world(self.world).silence_s
        named = ("grpc.ssl_target_name_override", credentials.server_name or "")
        options = (*CLIENT_OPTIONS, *keepalive(silence_s), named)
        channel = grpc.aio.secure_channel(rendezvous.address, credentials.for_client(), options=options)
        self.stub = pb_grpc.CoordinationStub(channel)  # type: ignore[no-untyped-call] # generated
        self.task = asyncio.ensure_future(self.converse())

    async def converse(self) -> None:
        self.handle(events.Started())
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                call = self.stub.Connect(self.requests(), timeout=STREAM_S)
                await call.initial_metadata()
                self.handle(events.ConnectionMade())
                async for message in call:
                    self.hear(convert.coordinator_from_proto(message))
            self.reconnected += 1
            self.handle(events.ConnectionLost())
            await asyncio.sleep(BACKOFF_S * random.random())  # noqa: S311 - spreads reconnects, no secret

    async def requests(self) -> AsyncIterator[pb.AgentEnvelope]:
        yield pb.AgentEnvelope(sender=values.sender_to(self.me))
        while True:
            yield await self.unsent.get()

    def hear(self, envelope: CoordinatorEnvelope) -> None:
        if isinstance(envelope.message, Welcome):
            self.joined_at = self.joined_at or time.monotonic()
            self.joined.set()
        self.handle(events.Heard(envelope))

    def tick(self, now: float) -> None:
        deadline = self.machine.next_deadline()
        if deadline is not None and now >= deadline:
            self.handle(events.Tick())

    def save(self, step: int) -> None:
        self.ended.clear()
        self.name = f"ckpt-{step}"
        self.handle(events.SaveRequested(step, step, self.name, "digest", SHARE.size))

    def handle(self, event: events.AgentEvent) -> None:
        for effect in self.machine.handle(event, time.monotonic()):
            match effect:
                case effects.Tell(envelope):
                    self.said += 1
                    self.send(envelope)
                case effects.WriteShare(round=number, share=share):
                    self.decided_at = time.monotonic()
                    shard = self.write(number, share)
                    self.written_at = time.monotonic()
                    self.handle(events.ShareWritten(number, share, shard))
                case effects.Resolve(_, result):
                    if not isinstance(result, Committed):
                        raise SystemExit(f"worker {self.me.worker}: {result}")
                    self.committed_at = time.monotonic()
                    self.ended.set()
                case effects.Stopped(cause):
                    raise SystemExit(f"worker {self.me.worker} was stopped: {cause}")

    def send(self, envelope: AgentEnvelope) -> None:
        self.unsent.put_nowait(convert.agent_to_proto(envelope))

    def write(self, number: int, share: int) -> Shard:
        worker = self.me.worker
        file = self.storage.stage(self.me.generation, staged_name(self.me, number, share))
        entries, size = write_share([Payload(f"own/{worker}", DT_UINT8, (SHARE.size,), SHARE)], file, threads=1)
        return Shard(worker, file.seal(), size, entries)


class ChiefsAgent(LightAgent):
    """The chief's own: joined to the coordinator in memory."""

    def __init__(self, chief: ChiefSide, world: int, storage: PosixStorage, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(CHIEF, world, storage, chief.job, chief.journal.state.generation)
        self.chief = chief
        chief.deliver = lambda envelope: loop.call_soon_threadsafe(self.hear, envelope) and None

    def send(self, envelope: AgentEnvelope) -> None:
        self.chief.coordinator.received(envelope)


async def tick_all(agents: list[LightAgent]) -> None:
    while True:
        await asyncio.sleep(0.1)
        now = time.monotonic()
        for agent in agents:
            agent.tick(now)


async def save_on(agents: list[LightAgent], step: int) -> dict[str, float]:
    begun, cpu = time.monotonic(), time.process_time()
    before = sum(agent.said for agent in agents)
    for agent in agents:
        agent.save(step)
    await asyncio.wait_for(asyncio.gather(*(agent.ended.wait() for agent in agents)), SAVE_DEADLINE_S)
    return {
        "begun": begun,
        "decided": max(agent.decided_at for agent in agents),
        "written": max(agent.written_at for agent in agents),
        "committed": max(agent.committed_at for agent in agents),
        "said": sum(agent.said for agent in agents) - before,
        "reconnected": sum(agent.reconnected for agent in agents),
        "cpu_s": time.process_time() - cpu,
    }


def drive(told: dict[str, Any], pipe: Connection) -> None:
    """A process that holds the agents `told["workers"]`; does what the pipe says."""
    asyncio.run(drive_agents(told, pipe))


async def drive_agents(told: dict[str, Any], pipe: Connection) -> None:
    storage = PosixStorage(told["directory"])
    rendezvous = read_rendezvous(storage, told["rendezvous"])
    agents = [
        LightAgent(worker, told["world"], storage, rendezvous.job, rendezvous.generation) for worker in told["workers"]
    ]
    ticking = asyncio.ensure_future(tick_all(agents))
    begun = time.monotonic()
    for agent in agents:
        await agent.connect(rendezvous)
    await asyncio.gather(*(agent.joined.wait() for agent in agents))
    pipe.send(max(agent.joined_at for agent in agents) - begun)
    while (step := await asyncio.to_thread(pipe.recv)) is not None:
        pipe.send(await save_on(agents, step))
    ticking.cancel()
    os._exit(0)  # the connections need no farewell


async def run(world: int, saves: int, drivers: int, directory: str) -> dict[str, Any]:
    storage = PosixStorage.create(directory)
    options = Options(job="benchmark")
    journal, job = begin_generation(storage, options, tuple(f"host-{worker}:0" for worker in range(world)))
    chief = ChiefSide(storage, journal, job, world, options, KeepLatest(1))
    chief.start()
    alone_mib = _peak_mib()
    began = time.monotonic()
    rendezvous = chief.serve("localhost", 0)
    served_s = time.monotonic() - began
    own: list[LightAgent] = [ChiefsAgent(chief, world, storage, asyncio.get_running_loop())]
    own[0].handle(events.Started())
    ticking = asyncio.ensure_future(tick_all(own))
    pipes, processes = [], []
    context = multiprocessing.get_context("spawn")
    for driver in range(drivers):
        mine, theirs = context.Pipe()
        workers = list(range(1 + driver, world, drivers))
        told = {"directory": directory, "rendezvous": rendezvous, "world": world, "workers": workers}
        processes.append(context.Process(target=drive, args=(told, theirs)))
        processes[-1].start()
        pipes.append(mine)
    try:
        joined = [await asyncio.to_thread(pipe.recv) for pipe in pipes]
        found = [await one_save(step, own, pipes) for step in range(1, saves + 1)]
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(10)
            process.kill()
        ticking.cancel()
        await asyncio.to_thread(chief.close)
    return {
        "workers": world,
        "keys_s": served_s,
        "joined_s": max(joined),
        "agreement_s": statistics.median(each["agreement_s"] for each in found),
        "commit_s": statistics.median(each["commit_s"] for each in found),
        "worst_agreement_s": max(each["agreement_s"] for each in found),
        "worst_commit_s": max(each["commit_s"] for each in found),
        "messages_per_worker": statistics.median(each["said"] for each in found) / world,
        "reconnected": found[-1]["reconnected"],
        "chief_cpu_s": statistics.median(each["chief_cpu_s"] for each in found),
        "agents_cpu_s": statistics.median(each["agents_cpu_s"] for each in found),
        "alone_mib": alone_mib,
        "chief_mib": _peak_mib(),
    }


def measure(world: int, saves: int, drivers: int, directory: str) -> dict[str, Any]:
    return asyncio.run(run(world, saves, drivers, directory))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def one_save(step: int, own: list[LightAgent], pipes: list[Connection]) -> dict[str, float]:
    cpu = time.process_time()
    for pipe in pipes:
        pipe.send(step)
    seen = [await save_on(own, step), *[await asyncio.to_thread(pipe.recv) for pipe in pipes]]
    decided = max(each["decided"] for each in seen)
    return {
        "agreement_s": decided - min(each["begun"] for each in seen),
        "commit_s": max(each["committed"] for each in seen) - max(each["written"] for each in seen),
        "said": sum(each["said"] for each in seen),
        "reconnected": sum(each["reconnected"] for each in seen),
        "chief_cpu_s": time.process_time() - cpu,
        "agents_cpu_s": sum(each["cpu_s"] for each in seen[1:]),
    }


def row(figures: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{figures['workers']:,}",
        *(f"{figures[key] * 1000:,.0f} ms" for key in TIMES),
        f"{figures['messages_per_worker']:.1f}",
        f"{figures['reconnected']}",
        f"{figures['alone_mib']:.0f} MiB",
        f"{figures['chief_mib']:.0f} MiB",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000], help="sizes (10 100 1000)")
    parser.add_argument("--saves", type=int, default=7, help="saves of each (7)")
    parser.add_argument("--drivers", type=int, default=2, help="processes that hold the agents (2)")
    parser.add_argument("--directory", default=None, help="where to write; default: the system's temporary directory")
    parser.add_argument("--json", default=None, help="also write the figures to this file")
    told = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file; the drivers inherit it
    results = []
    for world in told.workers:
        with (
            tempfile.TemporaryDirectory(dir=told.directory) as directory,
            # A process for each size: the peak of its memory is the chief's.
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
        ):
            results.append(process.submit(measure, world, told.saves, told.drivers, directory).result())
    rows = [HEADS, *(row(each) for each in results)]
    sys.stdout.write("\n".join(columns(rows, right=tuple(range(len(HEADS))))) + "\n")
    if told.json:
        Path(told.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
