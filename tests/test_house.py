"""The rules of the house that no linter knows."""

import os
import subprocess
import sys
from pathlib import Path

from contract.storage import open_storage
from contract.styles import StyleStore
from tests.conftest import publish_tiny

FORBIDDEN = (
    "torch",
    "torchvision",
    "safetensors",
    "numpy",
    "generator",
    "worker",
    "trainer",
    "opentelemetry.sdk.trace",
)

PROGRAM = f"""
import asyncio, sys
from contract.settings import load
from service.app import create_app
from service.settings import ServiceSettings

async def live(app):
    async with app.router.lifespan_context(app):
        assert app.state.gateway.redis.ping()
        print(app.state.gateway.styles.names())

app = create_app(load(ServiceSettings))
asyncio.run(live(app))
app.openapi()
print(*(name for name in {FORBIDDEN!r} if name in sys.modules))
"""


def test_the_gateway_runs_without_torch(redis_url: str, tmp_path: Path) -> None:
    publish_tiny(StyleStore(open_storage(str(tmp_path / "builtin"))), "tiny")
    environment = {
        **os.environ,
        "ATELIER_DATA": str(tmp_path / "data"),
        "ATELIER_BUILTIN_STYLES": str(tmp_path / "builtin"),
        "ATELIER_REDIS_URL": redis_url,
    }
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-2:] == ["['tiny']", ""]
