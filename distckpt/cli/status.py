"""`distckpt status DIR [--json]`: how a job stands, live where it runs, else from its journal."""

from __future__ import annotations

import argparse
import json

from distckpt.cli.calling import credentials_of
from distckpt.cli.standing import lines
from distckpt.cli.text import print_json, print_lines
from distckpt.errors import ConfigurationError
from distckpt.observe.looking import Looker
from distckpt.observe.picture import encode


def run(arguments: argparse.Namespace) -> int:
    with Looker(arguments.directory, credentials_of(arguments)) as looker:
        picture = looker.look()
    if not picture.generation and not picture.checkpoints:
        raise ConfigurationError(f"{arguments.directory}: neither distckpt nor TensorFlow saved here")
    if arguments.json:
        print_json(json.loads(encode(picture)))
    else:
        print_lines(lines(picture))
    return 0
