"""Where generators run: on a GPU where there is one, on the CPU otherwise; and when its memory is out."""

import torch

from contract.errors import SettingsError


def choose_device(name: str) -> torch.device:
    """The device of that name, or CUDA where there is one. Raises SettingsError when it is not there."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise SettingsError(f"ATELIER_DEVICE is 'cpu' or 'cuda', and not {name!r}.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError("ATELIER_DEVICE asks for CUDA, and PyTorch finds none here.")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or the device has no memory left. The CPU's allocator raises a RuntimeError like many others."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("can't allocate memory", "not enough memory")
    )
