"""`link(2)` as put-if-absent, and what to make of its errors.

A network file system may lose the answer to a request, repeat the request, and then meet its own link: EEXIST does not
mean another's file, and an I/O error does not mean that there is none. What became of it is found by looking.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from distckpt.errors import OutcomeUnknown, StorageError

_REFUSED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_UNCLEAR = (errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EINTR, errno.EREMOTEIO, errno.ECONNRESET, errno.ENODEV)
"""After these a server may have made the link, or may still make it."""


def link_if_absent(temporary: Path, target: Path, content: bytes) -> bool:
    """Gives the file `temporary`, which holds `content`, the name `target`. False: another file has that name.

    Raises OSError or StorageError where it did not happen and will not, OutcomeUnknown where it cannot tell.
    """
    ours = os.lstat(temporary)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return _is_file(target, ours, content)
    except OSError as error:
        if error.errno in _REFUSED:
            raise StorageError(
                f"the file system refuses hard links (link(2): {error.strerror}), "
                f"and without them nothing keeps two writers apart: use one that has them ({target})",
                str(target),
            ) from error
        if error.errno not in _UNCLEAR or not _settle(temporary, target, error):
            raise
        return _is_file(target, ours, content)
    return True


def _settle(temporary: Path, target: Path, error: OSError) -> bool:
    """Whether `target` exists after an unclear link. With `temporary` gone, no late request can still make it."""
    try:
        temporary.unlink(missing_ok=True)
        target.lstat()
    except FileNotFoundError:
        return False
    except OSError as second:
        raise OutcomeUnknown(f"link {target}: {error}, and looking at it: {second}") from error
    return True


def _is_file(path: Path, expected: os.stat_result, content: bytes) -> bool:
    """Whether `path` is the very file `expected`; its content too, for numbers of removed files are used again."""
    try:
        status = path.lstat()
        same = os.path.samestat(status, expected) and status.st_size == len(content)
        return same and path.read_bytes() == content
    except FileNotFoundError:  # it existed, and was deleted since
        return False
    except OSError as error:
        raise OutcomeUnknown(f"link {path}: it exists, and whose it is cannot be read: {error}") from error
