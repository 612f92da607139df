"""How the checkpoints of a manager are called."""

from __future__ import annotations

import posixpath
import re

from distckpt.errors import ConfigurationError
from distckpt.storage.keys import HIDDEN, check_key


def name_prefix(directory: str, checkpoint_name: str) -> str:
    """What stands before the number in the names of checkpoints, below the directory; it may hold separators."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", directory):
        raise ConfigurationError(f"{directory} is no directory of a file system, and distckpt writes only into those")
    prefix = posixpath.normpath(f"{checkpoint_name}-")
    try:
        check_key(f"{prefix}0")
    except ValueError as error:
        raise ConfigurationError(
            f"checkpoint_name={checkpoint_name!r} does not name files below {directory}"
        ) from error
    if prefix.startswith(f"{HIDDEN}/"):
        raise ConfigurationError(f"checkpoint_name={checkpoint_name!r}: {HIDDEN} is where distckpt keeps its own files")
    return prefix
