"""The checksums of tensors that are not written, as `writer` would compute them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from distckpt.bundle.checksum import crc32c
from distckpt.bundle.parallel import for_each
from distckpt.bundle.payload import Payload
from distckpt.bundle.runs import Checksums, Run, plan_runs
from distckpt.bundle.writer import RUN_BYTES


def checksums(payloads: Sequence[Payload], *, threads: int) -> tuple[int, ...]:
    """The CRC32C of each payload's data, on `threads` threads."""
    offsets = itertools.accumulate((payload.data.size for payload in payloads), initial=0)
    sums = Checksums(payload.data.size for payload in payloads)

    def add(run: Run) -> None:
        for each in run.portions:
            sums.add(each, crc32c(payloads[each.item].data[each.start : each.start + each.length]))

    spans = ((offset, payload.data.size) for offset, payload in zip(offsets, payloads, strict=False))
    for_each(add, plan_runs(spans, RUN_BYTES), threads)
    return tuple(sums.of(item) for item in range(len(payloads)))
