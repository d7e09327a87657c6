"""The rules of the house that no linter knows."""

import subprocess
import sys

FORBIDDEN = ("torch", "torchvision", "safetensors", "numpy", "generator", "worker", "trainer")


def test_the_gateway_runs_without_torch() -> None:
    program = f"""
import sys
from service.app import create_app
from service.settings import ServiceSettings
create_app(ServiceSettings()).openapi()
print(*(name for name in {FORBIDDEN!r} if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
