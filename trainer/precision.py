"""In which precision a training runs."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def choose_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where it is faster, which on a CPU is found out by trying: not all that know it are quick at it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    picture = torch.zeros(2, 64, 96, 96).to(memory_format=torch.channels_last)
    seconds = {dtype: min(_trials(layer, picture, dtype)) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=seconds.__getitem__)


@torch.no_grad()
def _trials(layer: nn.Conv2d, picture: Tensor, precision: torch.dtype, count: int = 4) -> Iterator[float]:
    for _ in range(count):
        began = time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            layer(picture)
        yield time.perf_counter() - began
