"""Which names a storage accepts. Shared by all storages, so that none takes what another refuses."""

from __future__ import annotations

from distckpt.errors import InvalidName

HIDDEN = ".distckpt"
STAGING = f"{HIDDEN}/staging"
TEMPORARY = f"{HIDDEN}/temporary"
KEY_BYTES_MAX = 1024
COMPONENT_BYTES_MAX = 255
"""What S3 allows for a key, and POSIX file systems for one component of it."""

_RESERVED = (STAGING, TEMPORARY)


def check_key(key: str) -> str:
    """Returns `key`. Raises InvalidName if it could name something outside the directory, or is the storage's own."""
    _check_name(key)
    if is_reserved(key):
        raise InvalidName(f"key {key!r}: staged and temporary files are not reached by key")
    return key


def check_handle(handle: str) -> str:
    """Returns `handle`. Raises InvalidName if no `seal` can have returned it: it is `GENERATION/NAME`."""
    _check_name(handle)
    generation, slash, name = handle.partition("/")
    if not slash or "/" in name or not (generation.isascii() and generation.isdigit()):
        raise InvalidName(f"handle {handle!r}: is not GENERATION/NAME")
    return handle


def is_reserved(key: str) -> bool:
    return any(key == folder or key.startswith(folder + "/") for folder in _RESERVED)


def _check_name(name: str) -> None:
    if not name or name.startswith("/"):
        raise InvalidName(f"key {name!r}: is empty or absolute")
    try:
        name.encode("utf-8", "surrogateescape")  # as os.fsencode: what a listing returns is a key, whatever its bytes
    except UnicodeEncodeError:
        raise InvalidName(f"key {name[:80]!r}: holds characters that no file's name can have") from None
    if "\0" in name or len(name.encode("utf-8", "replace")) > KEY_BYTES_MAX:
        raise InvalidName(f"key {name[:80]!r}: holds a NUL or is longer than {KEY_BYTES_MAX} bytes")
    for component in name.split("/"):
        if component in ("", ".", ".."):
            raise InvalidName(f"key {name!r}: has a component {component!r}")
        if len(component.encode("utf-8", "replace")) > COMPONENT_BYTES_MAX:
            raise InvalidName(f"key {name[:80]!r}: has a component longer than {COMPONENT_BYTES_MAX} bytes")
