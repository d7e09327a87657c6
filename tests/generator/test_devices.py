"""The device that generators run on."""

import subprocess
import sys

import pytest
import torch

from contract.errors import SettingsError
from generator.devices import choose_device


def test_the_device_is_the_one_named() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu!", "cuda" if not torch.cuda.is_available() else "cuda:x"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(SettingsError, match="ATELIER_DEVICE"):
        choose_device(name)


COUNT_PAGE_FAULTS = """
import resource, sys
import torch
from generator.devices import reuse_freed_memory
if sys.argv[1] == "reuse":
    reuse_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_memory_that_is_freed_is_used_again() -> None:
    """The system clears each page of a block when it is first touched."""

    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", COUNT_PAGE_FAULTS, how]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert page_faults("reuse") < page_faults("plain") / 2
