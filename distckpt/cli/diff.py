"""`distckpt diff DIR A B [--json]`: what differs between two checkpoints. Code 0: nothing; 3: something."""

from __future__ import annotations

import argparse
from math import isfinite, prod

from distckpt.bundle.difference import OBJECT_GRAPH, Difference, Form, differences
from distckpt.bundle.dtypes import dtype_of
from distckpt.bundle.reader import BundleReader
from distckpt.catalog import Catalog
from distckpt.cli.text import print_json, print_lines
from distckpt.storage.posix import PosixStorage
from distckpt.text import columns

DIFFERENT = 3


def run(arguments: argparse.Namespace) -> int:
    catalog = Catalog(arguments.directory)
    storage = PosixStorage(catalog.directory)
    names = [catalog.checkpoint(step).name for step in (arguments.a, arguments.b)]
    one, other = (BundleReader(storage, name) for name in names)
    found = list(differences(one, other))
    compared = len((one.tensors.keys() | other.tensors.keys()) - {OBJECT_GRAPH})
    if arguments.json:
        told = {"a": names[0], "b": names[1], "compared": compared, "differences": [_json(each) for each in found]}
        print_json({"same": not found, **told})
    else:
        print_lines([*_table(found), _sentence(found, compared, names)])
    return DIFFERENT if found else 0


def _table(found: list[Difference]) -> list[str]:
    if not found:
        return []
    rows = [[each.tensor, _kind(each), _elements(each), _max_abs(each)] for each in found]
    return columns([["TENSOR", "CHANGE", "ELEMENTS", "MAX ABS DIFFERENCE"], *rows], right=(2, 3))


def _kind(difference: Difference) -> str:
    before, after = difference.before, difference.after
    if before is None:
        return "added"
    if after is None:
        return "removed"
    return "values" if before == after else f"{_form(before)} -> {_form(after)}"


def _form(form: Form) -> str:
    return f"{dtype_of(form.dtype).name}{list(form.shape)}"


def _elements(difference: Difference) -> str:
    if difference.elements is None or difference.before is None:
        return ""
    return f"{difference.elements:,} of {prod(difference.before.shape):,}"


def _max_abs(difference: Difference) -> str:
    return "" if difference.max_abs is None else f"{difference.max_abs:.6g}"


def _sentence(found: list[Difference], compared: int, names: list[str]) -> str:
    one, other = names
    if not found:
        return f"{one} and {other}: all {compared} tensors are the same, bit for bit."
    return f"{one} and {other}: {len(found)} of {compared} tensors differ."


def _json(difference: Difference) -> dict[str, object]:
    """JSON has no infinity: null."""
    largest = difference.max_abs
    return {
        "tensor": difference.tensor,
        "before": _form_json(difference.before),
        "after": _form_json(difference.after),
        "elements": difference.elements,
        "max_abs": largest if largest is not None and isfinite(largest) else None,
    }


def _form_json(form: Form | None) -> dict[str, object] | None:
    return None if form is None else {"dtype": dtype_of(form.dtype).name, "shape": list(form.shape)}
