"""What the command line accepts. A command's module is imported when it is called: the others cost nothing."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distckpt import __version__
from distckpt.launch.restarts import HEALTHY_AFTER_S
from distckpt.launch.tf_config import PORT, PORT_MAX

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse gives it no public name


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `.module` names the module whose `run` takes it. Exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(prog="distckpt", description="Checkpoints of distributed TensorFlow training.")
    parser.add_argument("--version", action="version", version=f"distckpt {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_tf_config(commands)
    _add_status(commands)
    _add_watch(commands)
    _add_dashboard(commands)
    _add_probe(commands)
    _add_ls(commands)
    _add_show(commands)
    _add_verify(commands)
    _add_diff(commands)
    _add_prune(commands)
    _add_recover(commands)
    _add_doctor(commands)
    _add_save_now(commands)
    return parser.parse_args(argv)


def _add_demo(commands: Commands) -> None:
    parser = commands.add_parser("demo", help="train on digits, kill a worker, resume, and prove the result")
    parser.add_argument("--workers", type=_positive, default=2, metavar="N", help="how many workers (default: 2)")
    parser.add_argument("--keep", metavar="DIR", help="leave the files there; DIR must be empty or absent")
    parser.set_defaults(module="distckpt.cli.demo")


def _add_run(commands: Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run the workers of a job on this machine, with TF_CONFIG set; restart them all when one dies",
        usage="distckpt run --workers N [OPTION...] -- COMMAND [ARGUMENT...]",
    )
    parser.add_argument("--workers", type=_positive, required=True, metavar="N", help="how many workers")
    parser.add_argument(
        "--max-restarts", type=_count, default=0, metavar="R", help="restart so often in a row at most (default: 0)"
    )
    parser.add_argument(
        "--healthy-after",
        type=_seconds,
        default=HEALTHY_AFTER_S,
        metavar="SECONDS",
        help=f"a start that lived so long begins a new row (default: {HEALTHY_AFTER_S:g})",
    )
    parser.add_argument(
        "--min-workers", type=_positive, metavar="M", help="from the second restart in a row on, one less, down to M"
    )
    parser.add_argument(
        "--hang-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="show the stacks of, and restart, a job of which a worker finished no step for so long (default: wait)",
    )
    parser.add_argument("--log-dir", metavar="DIR", help="write each worker's output also to a file there")
    parser.add_argument("program", nargs=argparse.PARSER, metavar="COMMAND", help="what each worker runs")
    parser.set_defaults(module="distckpt.cli.run")


def _add_tf_config(commands: Commands) -> None:
    parser = commands.add_parser(
        "tf-config",
        help="print TF_CONFIG for this process of a Kubernetes, Slurm, MPI or Flux job; or run a command with it",
        usage="distckpt tf-config [--hosts HOSTS] [--port PORT] [-- COMMAND [ARGUMENT...]]",
    )
    parser.add_argument(
        "--hosts", metavar="HOSTS", help="a host for each worker, as node[1-4] or a,b; default: as the launcher says"
    )
    parser.add_argument(
        "--port", type=_port, default=PORT, metavar="PORT", help=f"of each host's first worker (default: {PORT})"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND", help="run this with TF_CONFIG set")
    parser.set_defaults(module="distckpt.cli.tf_config")


def _add_status(commands: Commands) -> None:
    parser = commands.add_parser("status", help="how a job stands: its workers, the save in flight, the last errors")
    _add_directory(parser)
    _add_calling(parser)
    parser.set_defaults(module="distckpt.cli.status")


def _add_watch(commands: Commands) -> None:
    parser = commands.add_parser("watch", help="follow a job, through its restarts too, until Ctrl-C")
    parser.add_argument("directory", metavar="DIR", help="the directory that the training saves into")
    _add_calling(parser)
    parser.set_defaults(module="distckpt.cli.watch")


def _add_dashboard(commands: Commands) -> None:
    parser = commands.add_parser("dashboard", help="serve a page that shows a job, running or not, until Ctrl-C")
    parser.add_argument("directory", metavar="DIR", help="the directory that the training saves into")
    parser.add_argument("--port", type=_count, default=0, metavar="N", help="on this port (default: a free one)")
    _add_calling(parser)
    parser.set_defaults(module="distckpt.cli.dashboard")


def _add_probe(commands: Commands) -> None:
    parser = commands.add_parser("probe", help="for a scheduler's probes: code 0 if the job, or this worker, is well")
    parser.add_argument("directory", nargs="?", metavar="DIR", help="its coordinator answers")
    parser.add_argument(
        "--hang-timeout", type=_seconds, metavar="SECONDS", help="the worker that writes DISTCKPT_STEP_FILE makes steps"
    )
    _add_calling(parser)
    parser.set_defaults(module="distckpt.cli.probe")


def _add_ls(commands: Commands) -> None:
    parser = commands.add_parser("ls", help="list the checkpoints in a directory")
    _add_directory(parser)
    parser.set_defaults(module="distckpt.cli.ls")


def _add_show(commands: Commands) -> None:
    parser = commands.add_parser("show", help="show one checkpoint: its files, and each tensor in it")
    _add_directory(parser)
    parser.add_argument("step", type=_count, metavar="STEP")
    parser.set_defaults(module="distckpt.cli.show")


def _add_verify(commands: Commands) -> None:
    parser = commands.add_parser("verify", help="read every byte and compare the checksums; code 1 if one differs")
    _add_directory(parser)
    parser.add_argument("step", type=_count, nargs="?", metavar="STEP", help="default: every checkpoint")
    parser.set_defaults(module="distckpt.cli.verify")


def _add_diff(commands: Commands) -> None:
    parser = commands.add_parser(
        "diff", help="what differs between two checkpoints, by tensor; code 3 if anything does"
    )
    _add_directory(parser)
    parser.add_argument("a", type=_count, metavar="A", help="the step of one")
    parser.add_argument("b", type=_count, metavar="B", help="the step of the other")
    parser.set_defaults(module="distckpt.cli.diff")


def _add_prune(commands: Commands) -> None:
    parser = commands.add_parser("prune", help="remove old checkpoints of a job that has ended")
    _add_directory(parser)
    parser.add_argument(
        "--keep-latest", type=_positive, required=True, metavar="N", help="keep the last N; the newest stays always"
    )
    parser.add_argument(
        "--keep-every-steps", type=_positive, metavar="K", help="keep also one every K steps, from the first on"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and change nothing")
    parser.set_defaults(module="distckpt.cli.prune")


def _add_recover(commands: Commands) -> None:
    parser = commands.add_parser("recover", help="finish or clear away what a dead job left, as its next start would")
    _add_directory(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.set_defaults(module="distckpt.cli.recover")


def _add_doctor(commands: Commands) -> None:
    parser = commands.add_parser("doctor", help="try whether a storage does what distckpt needs; code 1 if it does not")
    _add_directory(parser)
    parser.set_defaults(module="distckpt.cli.doctor")


def _add_save_now(commands: Commands) -> None:
    parser = commands.add_parser("save-now", help="have a running job save now, and wait for the commit")
    _add_directory(parser)
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="wait so long at most (default: 600); what has begun by then goes on",
    )
    _add_calling(parser)
    parser.set_defaults(module="distckpt.cli.save_now")


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the directory that the training saves into")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_calling(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--tls",
        nargs=3,
        metavar=("AUTHORITY", "CERTIFICATE", "KEY"),
        help="PEM files, to call a job that was given credentials of its own (default: those in DIR)",
    )
    how.add_argument("--insecure", action="store_true", help="the same, for a job that was told to do without TLS")


def _positive(text: str) -> int:
    return _at_least(1, text)


def _count(text: str) -> int:
    return _at_least(0, text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, more than 0")
    return seconds


def _port(text: str) -> int:
    port = _positive(text)
    if port > PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: {PORT_MAX} is the last")
    return port


def _at_least(least: int, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
    return int(text)
