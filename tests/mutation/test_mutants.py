"""The tool itself: one thing is changed at a time, and whoever imports the package sees the change."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from equivalent import EQUIVALENT
from mutants import ROOT, changed, changes, find, first_failure, head, mutants, recorded
from targets import TARGETS

SOURCE = """
class File:
    def seal(self):
        if self.sealed or self.gone:
            raise ValueError
        os.fsync(self.fd)
        return self.size == 3

def unrelated():
    os.fsync(1)
"""
CHOOSING = """
def kept(files, held):
    for file in broken(files):
        raise ValueError(file)
    return {file for file in files if file.new} | set(held)
"""
HERE = """
import distckpt

def test_here():
    assert not distckpt.CHANGED
"""
IN_A_PROCESS = """
import subprocess, sys

def test_in_a_process():
    subprocess.run([sys.executable, "-c", "import distckpt; assert not distckpt.CHANGED"], check=True)
"""


def test_each_mutant_has_one_change_and_keeps_the_rest() -> None:
    tree = ast.parse(SOURCE)
    honest = ast.unparse(tree)
    made = {name: changed(tree, place, by) for place, name, by in changes(find(tree, "File.seal"))}
    assert made == {
        "never `if self.sealed or self.gone`": honest.replace("if self.sealed or self.gone", "if False"),
        "without `os.fsync(self.fd)`": honest.replace("os.fsync(self.fd)", "pass"),
        "`return True` for `self.size == 3`": honest.replace("self.size == 3", "True"),
        "`return False` for `self.size == 3`": honest.replace("self.size == 3", "False"),
    }
    assert ast.unparse(tree) == honest


def test_what_is_chosen_is_changed_too() -> None:
    tree = ast.parse(CHOOSING)
    honest = ast.unparse(tree)
    made = {name: changed(tree, place, by) for place, name, by in changes(find(tree, "kept"))}
    assert made == {
        "never `for file in broken(files)`": honest.replace("broken(files)", "()"),
        "always `... for ... if file.new`": honest.replace("file.new", "True"),
        "never `... for ... if file.new`": honest.replace("file.new", "False"),
        "only `{file for file in files if file.new}` of `{file for file in files if file.new} | set(held)`": (
            honest.replace(" | set(held)", "")
        ),
    }


def test_the_table_says_which_test_is_to_be_asked_first() -> None:
    known = recorded()
    first = [known[head(each)] for target in TARGETS for each in mutants(target) if head(each) in known]
    assert first
    assert all((ROOT / test.partition("::")[0]).exists() for test in first)


def test_a_function_that_is_gone_is_named() -> None:
    with pytest.raises(LookupError, match=r"File\.unseal"):
        find(ast.parse(SOURCE), "File.unseal")


def test_the_targets_the_tests_and_the_excuses_are_of_the_code_as_it_is() -> None:
    made = [(each.target.path, each.function, each.name) for target in TARGETS for each in mutants(target)]
    assert len(set(made)) == len(made)
    assert EQUIVALENT.keys() <= set(made)
    assert [path for target in TARGETS for path in target.tests if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("test", [HERE, IN_A_PROCESS])
def test_a_change_is_seen_by_a_test_and_by_the_process_that_it_starts(test: str, tmp_path: Path) -> None:
    (tmp_path / "test_toy.py").write_text(test)
    package = tmp_path / "distckpt" / "__init__.py"
    package.parent.mkdir()
    package.write_text("CHANGED = False")
    assert first_failure([str(tmp_path / "test_toy.py")], tmp_path) == ""
    package.write_text("CHANGED = True")
    assert "test_toy.py::test_" in first_failure([str(tmp_path / "test_toy.py")], tmp_path)
