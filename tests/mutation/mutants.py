"""Makes one change at a time to what keeps a promise, and asks the tests that should notice. `make mutants`.

    python tests/mutation/mutants.py [--table docs/mutants.md] [PART OF A PATH ...]

Each mutant is a copy of the package in a temporary directory with one file changed; nothing in the tree is touched. The
test that docs/mutants.md names for it is asked first, the others only if that does not notice. The exit code is 1 if
one survives that equivalent.py does not excuse, 2 if the tests fail without any change: then nothing is changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from equivalent import EQUIVALENT
from targets import TARGETS, Target

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "mutants.md"
SYNCS = {"fsync", "sync_folder", "_sync_names", "_sync_names_in_time"}
CHECKS = {
    *("_admit", "_check_name", "_check_own", "_check_sender", "_check_shards", "_require"),
    *("check_coverage", "check_staged", "claim"),
}
LEFT_OUT = SYNCS | CHECKS
SETS = (ast.Call, ast.Set, ast.SetComp)
SHORT = {"DISTCKPT_SIM_SCHEDULES": "400", "DISTCKPT_JOURNAL_SCHEDULES": "300"}
PATIENCE_S = 1200
AT_A_TIME = 2
SHOWN_CHARACTERS = 90
HEAD = """# Mutants

Written by `make mutants` (tests/mutation): one change at a time to a fsync, to a check that fences or tells names
apart, to a comparison of checksums; and the first test that failed.

| where | change | noticed by |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`name` says what is changed, and stays the same when lines move."""

    target: Target
    function: str
    name: str
    source: str

    @property
    def excuse(self) -> str:
        return EQUIVALENT.get((self.target.path, self.function, self.name), "")


def mutants(target: Target) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / "distckpt" / target.path).read_text())
    for function in target.functions:
        names: dict[str, int] = {}
        for place, what, replacement in changes(find(tree, function)):
            names[what] = names.get(what, 0) + 1
            name = what if names[what] == 1 else f"{what} ({names[what]})"
            yield Mutant(target, function, name, changed(tree, place, replacement))


def find(tree: ast.Module, function: str) -> ast.AST:
    """Raises LookupError where there is no such function any more: then the targets are out of date."""
    node: ast.AST = tree
    for part in function.split("."):
        named = (each for each in ast.iter_child_nodes(node) if getattr(each, "name", None) == part)
        found = next(named, None)
        if found is None:
            raise LookupError(f"there is no {function}")
        node = found
    return node


def changes(function: ast.AST) -> Iterator[tuple[ast.AST, str, ast.AST]]:
    """What is replaced, in words, and by what."""
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and called(node.value) in LEFT_OUT:
            yield node, f"without `{shown(node)}`", ast.Pass()
        elif isinstance(node, ast.If):
            yield node.test, f"never `if {shown(node.test)}`", ast.Constant(value=False)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp):
            for value in (True, False):
                yield node.value, f"`return {value}` for `{shown(node.value)}`", ast.Constant(value=value)
        else:
            yield from choices(node)


def choices(node: ast.AST) -> Iterator[tuple[ast.AST, str, ast.AST]]:
    """As `changes`, where `node` says what of something is taken."""
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            for value, word in ((True, "always"), (False, "never")):
                yield test, f"{word} `... for ... if {shown(test)}`", ast.Constant(value=value)
    elif isinstance(node, ast.For) and all(map(is_objection, node.body)):
        yield node.iter, f"never `for {shown(node.target)} in {shown(node.iter)}`", ast.Tuple([], ast.Load())
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and isinstance(node.right, SETS):
        yield node, f"only `{shown(node.left)}` of `{shown(node)}`", node.left


def is_objection(node: ast.stmt) -> bool:
    """Whether it does nothing but say that something is wrong."""
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield))


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def shown(node: ast.AST) -> str:
    text = re.sub(r"\s+", " ", ast.unparse(node))
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def changed(tree: ast.Module, place: ast.AST, replacement: ast.AST) -> str:
    """The whole file with `replacement` at `place`."""
    number = next(number for number, node in enumerate(ast.walk(tree)) if node is place)
    twin = copy.deepcopy(tree)
    victim = list(ast.walk(twin))[number]

    class Replacing(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return replacement if node is victim else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Replacing().visit(twin)))


def recorded() -> dict[str, str]:
    """The test that noticed before, by the beginning of the mutant's row."""
    rows = (line.rpartition(" | ") for line in TABLE.read_text().splitlines() if line.endswith(" |"))
    return {head: f"tests/{test.removesuffix(' |')}" for head, _, test in rows if "::" in test}


def killer(mutant: Mutant, honest: Path, before: str | None) -> str:
    """The first test that fails, where the one that noticed `before` is asked first; empty: it survived."""
    with tempfile.TemporaryDirectory() as directory:
        overlay = Path(directory)
        shutil.copytree(honest / "distckpt", overlay / "distckpt")
        (overlay / "distckpt" / mutant.target.path).write_text(mutant.source)
        if before is not None and first_failure([before], overlay) == before:
            return before
        return first_failure(mutant.target.tests, overlay)


def first_failure(tests: Sequence[str], overlay: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests]
    # The safe path: what the tests import, and the processes that they start, is the overlay, not the tree around them.
    overlaid = {"PYTHONPATH": str(overlay), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = os.environ | SHORT | overlaid
    try:
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return "the tests do not end"
    if ran.returncode == 0:
        return ""
    told = re.search(r"^(?:FAILED|ERROR) (\S+?\.py(?:::[^\s\[]+)?)", ran.stdout, re.MULTILINE)
    return told[1] if told else f"pytest ends with {ran.returncode}"


def row(mutant: Mutant, killed_by: str) -> str:
    verdict = killed_by.removeprefix("tests/") or f"survives: {mutant.excuse or '**nothing noticed**'}"
    return f"{head(mutant)} | {verdict} |\n"


def head(mutant: Mutant) -> str:
    """Its row, but for the verdict."""
    cells = (f"{mutant.target.path}: {mutant.function}", mutant.name)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Which test notices, when one thing that keeps a promise is changed?")
    parser.add_argument("--table", type=Path, help="write the table here, if no path is asked for")
    parser.add_argument("paths", nargs="*", help="only files whose path holds one of these")
    asked = parser.parse_args(arguments)
    targets = [each for each in TARGETS if not asked.paths or any(part in each.path for part in asked.paths)]
    before = recorded()
    rows: list[str] = []
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory() as directory:
        overlay = Path(directory)
        shutil.copytree(ROOT / "distckpt", overlay / "distckpt", ignore=shutil.ignore_patterns("__pycache__"))
        tests = dict.fromkeys(test for target in targets for test in target.tests)
        broken = first_failure([f"--numprocesses={AT_A_TIME}", "--dist=worksteal", *tests], overlay)
        if broken:
            parser.error(f"nothing can be told: without any change, {broken}")
        made = [each for target in targets for each in mutants(target)]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            asking = pool.map(lambda each: killer(each, overlay, before.get(head(each))), made)
            for mutant, killed_by in zip(made, asking, strict=True):
                rows.append(row(mutant, killed_by))
                survivors += [] if killed_by else [mutant]
                sys.stdout.write(rows[-1])
                sys.stdout.flush()
    summary = f"\n{len(rows)} mutants: {len(rows) - len(survivors)} noticed, {len(survivors)} not.\n"
    sys.stdout.write(summary)
    if asked.table and not asked.paths:
        asked.table.write_text(HEAD + "".join(rows) + summary)
    return 1 if any(not each.excuse for each in survivors) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
