"""What `import distckpt` gives, and what it costs."""

import subprocess
import sys

import pytest

import distckpt


def test_importing_distckpt_does_not_import_tensorflow_nor_anything_slow() -> None:
    code = "import sys, distckpt; print([m for m in ('tensorflow', 'keras', 'grpc', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_listed() -> None:
    for name in distckpt.__all__:
        assert getattr(distckpt, name) is not None
    assert set(distckpt.__all__) <= set(dir(distckpt))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'distckpt' has no attribute 'Chekpoint'"):
        _ = distckpt.Chekpoint
