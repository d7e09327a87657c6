"""schemathesis against a running service, in short; ``make test-schema`` does it at length."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Stack
from tests.schema.run import schemathesis, service


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Stack]:
    yield from service(tmp_path)


@pytest.mark.timeout(300)  # it starts a service of its own, too
def test_the_service_does_as_its_description_says(own_service: Stack, tmp_path: Path) -> None:
    report = tmp_path / "report"
    with report.open("w") as out:
        status = schemathesis(
            own_service, "--phases", "examples,fuzzing", "--max-examples", "3", "--no-shrink", out=out
        )
    assert status == 0, report.read_text()
    assert re.search(r"Tested: [1-9][0-9]", report.read_text()), report.read_text()
