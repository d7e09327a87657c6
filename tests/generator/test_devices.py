"""The device that generators run on."""

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
