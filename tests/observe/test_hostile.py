"""The launcher reads what workers leave in files: whatever it is."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distckpt.observe.step_file import Steps, read_steps

SIZE = len(Steps().encode())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2 * SIZE) | st.binary(min_size=SIZE, max_size=SIZE))
def test_a_step_file_of_any_bytes_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "steps"
    path.write_bytes(content)
    steps = read_steps(str(path))
    assert len(content) >= SIZE or steps == Steps()
    assert not steps.alive
