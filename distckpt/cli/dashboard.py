"""`distckpt dashboard DIR [--port N]`: a page that shows a job, running or not, served to this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading

from distckpt.cli.calling import credentials_of
from distckpt.cli.signals import until_asked
from distckpt.cli.text import print_lines
from distckpt.observe.dashboard import Dashboard
from distckpt.observe.looking import Looker
from distckpt.observe.picture import encode

LOOPBACK = "127.0.0.1"


def run(arguments: argparse.Namespace) -> int:
    lock = threading.Lock()
    with until_asked() as asked, Looker(arguments.directory, credentials_of(arguments)) as looker:

        def picture() -> bytes:
            with lock:  # several browsers may ask at once
                return encode(looker.look())

        dashboard = Dashboard(picture, LOOPBACK, arguments.port)
        print_lines([f"{dashboard.url}#{dashboard.token}", "The address holds the key to it. Ctrl-C ends it."])
        sys.stdout.flush()
        asked.wait()
        dashboard.close()
    return 0
