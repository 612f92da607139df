"""Python's garbage collector, kept from looking at all of TensorFlow's objects in the middle of something short.

It collects in full when a quarter has come on top of what it last saw. A walk or a restore makes some ten objects for
each variable, most of them for a moment; of 10,000 variables a full collection takes as long as the rest of the
restore (docs/decisions/0020-restore-reading.md).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred() -> Iterator[None]:
    """Nothing is collected meanwhile, in any thread, but what nobody refers to, which goes at once as always.

    For what takes a time that is bounded by the number of variables, and waits for nobody.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
