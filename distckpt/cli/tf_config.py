"""`distckpt tf-config [--hosts HOSTS] [--port PORT] [-- COMMAND...]`: prints TF_CONFIG, or becomes COMMAND with it set.

The second form is the one for containers and `srun`: it needs no shell, signals reach the command itself, and where the
place in the cluster cannot be told, nothing is started. (`TF_CONFIG=$(distckpt tf-config) python train.py` would go on
with an empty TF_CONFIG, and each worker train alone.)
"""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from distckpt.cli.text import print_lines
from distckpt.errors import ConfigurationError
from distckpt.launch.tf_config import resolve


def run(arguments: argparse.Namespace) -> int:
    config = resolve(os.environ, hosts=arguments.hosts, port=arguments.port)
    command = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if command:
        _become(command, config)
    print_lines([config])
    return 0


def _become(command: list[str], config: str) -> NoReturn:
    try:
        os.execvpe(command[0], command, {**os.environ, "TF_CONFIG": config})  # noqa: S606 - that is what it is for
    except OSError as error:
        raise ConfigurationError(f"{command[0]}: cannot be run: {error.strerror}") from error
