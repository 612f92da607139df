"""The committed protobuf code is what the committed .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROTOS = sorted((REPOSITORY / "protos").rglob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_generating_again_changes_nothing(proto: Path, tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools (in the test requirements) is not installed")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    if "\nservice " in proto.read_text():
        outputs.append(f"--grpc_python_out={tmp_path}")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'protos'}", *outputs, str(proto)]
    subprocess.run(command, check=True, timeout=120)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == len(outputs)
    for path in made:
        assert path.read_text() == (REPOSITORY / path.relative_to(tmp_path)).read_text(), "run `make proto`"


def test_there_is_something_to_generate() -> None:
    assert PROTOS
