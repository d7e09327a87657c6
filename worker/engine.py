"""The engine: generators in memory, and what runs them. Called from one thread only, the batcher's."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from contract.errors import OutOfMemoryError
from generator.checkpoint import Checkpoint
from generator.devices import is_out_of_memory
from generator.network import Generator
from generator.pixels import Pixels, to_pixels, to_tensor


class TrunkCache:
    """Generators by the hash of their trunk; those used longest ago leave when the bytes run out."""

    def __init__(self, read: Callable[[str], bytes], device: torch.device, limit_bytes: int) -> None:
        self._read = read
        self._device = device
        self._limit_bytes = limit_bytes
        self._generators: OrderedDict[str, Generator] = OrderedDict()

    def get(self, trunk: str) -> Generator:
        """The generator of a trunk. Raises CheckpointError, StyleNotFoundError, StoreUnavailableError."""
        if trunk not in self._generators:
            self._generators[trunk] = Checkpoint.from_bytes(self._read(trunk)).generator().to(self._device)
            self._evict()
        self._generators.move_to_end(trunk)
        return self._generators[trunk]

    def __contains__(self, trunk: str) -> bool:
        return trunk in self._generators

    def _evict(self) -> None:
        """The newest one stays, even when it is larger than the limit by itself."""
        while len(self._generators) > 1 and sum(map(_bytes, self._generators.values())) > self._limit_bytes:
            self._generators.popitem(last=False)


def _bytes(generator: Generator) -> int:
    return sum(tensor.nbytes for tensor in generator.state_dict().values())


class TorchEngine:
    """Runs generators with PyTorch in float32, on the CPU or on CUDA."""

    def __init__(self, trunks: TrunkCache, device: torch.device) -> None:
        self._trunks = trunks
        self._device = device

    @torch.inference_mode()
    def stylize(self, trunk: str, contents: Sequence[Pixels], styles: Sequence[Tensor]) -> list[Pixels]:
        """One pass over pictures of one size, each with its own style vector [S].

        Raises OutOfMemoryError when they do not fit into memory, and whatever ``TrunkCache.get`` raises.
        """
        try:
            generator = self._trunks.get(trunk)
            content = torch.stack([to_tensor(pixels) for pixels in contents]).to(self._device)  # B,3,H,W
            stylized = generator(content, torch.stack(list(styles)).to(self._device))
            return [to_pixels(picture) for picture in stylized]
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise _out_of_memory(contents) from error
            raise


def _out_of_memory(contents: Sequence[Pixels]) -> OutOfMemoryError:
    height, width = contents[0].shape[:2]
    return OutOfMemoryError(f"A picture of {width}×{height} does not fit into memory here: try a smaller size.")
