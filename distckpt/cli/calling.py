"""What `--tls` and `--insecure` say: how to call a job that was given its own `Options.credentials`."""

from __future__ import annotations

import argparse

from distckpt.rpc.credentials import Credentials, Insecure, Security


def credentials_of(arguments: argparse.Namespace) -> Security | None:
    """None: those that lie in the job's directory. Raises ConfigurationError naming a file that cannot be used."""
    if arguments.insecure:
        return Insecure()
    return None if arguments.tls is None else Credentials.from_files(*arguments.tls)
