"""The kernels' checks where there is no GPU, and what is true of their package without Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from milr import kernels

CHECKS = Path(__file__).with_name("test_kernels.py")


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernels_compute_in_the_interpreter_what_they_should() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", str(CHECKS)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, cwd=CHECKS.parents[2], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_the_package_brings_no_triton() -> None:
    code = "import sys, milr.kernels; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_kernels_are_not_available_on_a_cpu() -> None:
    assert not kernels.available(torch.device("cpu"))
