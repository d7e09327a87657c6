"""Where generators run: on a GPU where there is one, on the CPU otherwise; and how its memory is used."""

import ctypes

import torch

from contract.errors import SettingsError

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Options of mallopt(3)."""
REUSED_BYTES = 256 * 2**20
KEPT_BYTES = 512 * 2**20


def reuse_freed_memory() -> None:
    """Has the C library keep the memory of feature maps that are freed, for the next ones.

    By default it gives every large block back to the system, which clears it again page by page when the next layer
    asks for as much: a third of the time of a full-width network in eager PyTorch. Libraries other than glibc stay as
    they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, REUSED_BYTES)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)


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
