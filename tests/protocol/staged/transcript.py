"""Plays a transcript: a command, a line `----`, what must follow, an empty line; like the tests of etcd's raft.

Commands are a verb, the worker where there is one, and `key=value`: `save 1 step=110`. The verbs are in `_VERBS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

from staged.stage import TOOL, Stage
from staged.wording import without_repeats

from distckpt.model import Cause, Checkpoint
from distckpt.protocol import events

Options = dict[str, str]


def play(text: str) -> str:
    """The transcript as it should read: the commands of `text` with what really follows."""
    stage: Stage | None = None
    blocks = []
    for block in text.strip().split("\n\n"):
        commands = [line for line in block.split("----")[0].splitlines() if line]
        begun = 0 if stage is None else len(stage.log)
        for command in commands:
            if not command.startswith("#"):
                stage = _perform(stage, command)
        told = [] if stage is None else without_repeats(stage.log[begun:])
        blocks.append("\n".join([*commands, "----", *(told or ["nothing"])]))
    return "\n\n".join(blocks) + "\n"


def _perform(stage: Stage | None, command: str) -> Stage:
    verb, *words = shlex.split(command)
    options = dict(word.split("=", 1) for word in words if "=" in word)
    workers = [int(word) for word in words if "=" not in word]
    if verb == "job":
        return _job(options)
    assert stage is not None, "a transcript begins with: job workers=N"
    if verb in _OF_ALL:
        _OF_ALL[verb](stage, options)
    for worker in workers:
        _OF_WORKER[verb](stage, worker, options)
    return stage


def _job(options: Options) -> Stage:
    names = [name for name in options.get("checkpoints", "").split(",") if name]
    stage = Stage(int(options["workers"]), [Checkpoint(n, int(n.split("-")[1]), 0.0, 0) for n in names])
    if "joined" in options:
        stage.start_all()
        stage.log.clear()
    return stage


def _save(stage: Stage, worker: int, options: Options) -> None:
    stage.save(worker, int(options["step"]), captured=options.get("captured") != "no")


def _fail_share(stage: Stage, worker: int, options: Options) -> None:
    stage.fail_share(worker, Cause(options["kind"], options["text"], worker))


def _captured(stage: Stage, worker: int, _: Options) -> None:
    stage.happen(worker, events.Captured(stage.ordinal(worker)))


def _take_over(stage: Stage, worker: int, options: Options) -> None:
    stage.take_over(worker, first=options.get("first") != "no", step=int(options.get("step", "100")))


def _cut(stage: Stage, worker: int, _: Options) -> None:
    stage.cut.add(worker)


def _mend(stage: Stage, worker: int, _: Options) -> None:
    stage.cut.discard(worker)


def _wish(stage: Stage, worker: int, options: Options) -> None:
    within_s = float(options.get("within", "30"))
    stage.wish(worker, options.get("reason", "SIGUSR1"), within_s, final=options.get("final") == "yes")


def _fail_commit(stage: Stage, options: Options) -> None:
    stage.fail_commit(options["kind"], fatal=options.get("fatal") == "yes")


def _supersede(stage: Stage, options: Options) -> None:
    cause = Cause("Fenced", "generation 2 has taken the directory over")
    stage.decide(events.Superseded(int(options["generation"]), cause))


_OF_WORKER: dict[str, Callable[[Stage, int, Options], None]] = {
    "start": lambda stage, worker, options: stage.start(worker, options.get("incarnation", "")),
    "save": _save,
    "restore": lambda stage, worker, options: stage.restore(worker, options.get("selector", "latest")),
    "captured": _captured,
    "write": lambda stage, worker, _: stage.write(worker),
    "fail-share": _fail_share,
    "verify": lambda stage, worker, options: stage.verify(worker, options.get("fault")),
    "kill": lambda stage, worker, _: stage.kill(worker),
    "close": lambda stage, worker, _: stage.happen(worker, events.Stop()),
    "wish": _wish,
    "keep": lambda stage, worker, options: stage.keep(worker, int(options["step"])),
    "part": lambda stage, worker, _: stage.happen(worker, events.Parting()),
    "finish": lambda stage, worker, options: stage.finish(worker, int(options["step"])),
    "take-over": _take_over,
    "cut": _cut,
    "mend": _mend,
}


def _chief_dies(stage: Stage, options: Options) -> None:
    """The process of the chief, with the coordinator in it. `gone`: everybody can see that there is no such process."""
    del stage.agents[0]
    stage.chief_lives = False
    stage.holder = replace(stage.holder, is_gone="gone" in options)
    for worker in range(1, stage.workers):
        stage.cut.add(worker)
        stage.happen(worker, events.ConnectionLost())


def _new_start(stage: Stage, _: Options) -> None:
    stage.holder = events.JournalSeen(0, 2)


_OF_ALL: dict[str, Callable[[Stage, Options], None]] = {
    "commit": lambda stage, options: stage.commit(*options.get("retired", "").split()),
    "fail-commit": _fail_commit,
    "set-aside": lambda stage, _: stage.set_aside(),
    "tool": lambda stage, options: _wish(stage, TOOL, {"reason": "save-now", **options}),
    "wait": lambda stage, options: stage.wait(float(options["s"])),
    "chief-dies": _chief_dies,
    "new-start": _new_start,
    "supersede": _supersede,
}
