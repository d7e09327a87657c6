"""The engine: networks in memory, and what runs them. Called from one thread only, the batcher's."""

import errno
from collections import OrderedDict
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from pathlib import Path

import torch
from torch import Tensor

from contract.errors import OutOfMemoryError, ScratchFullError
from generator.checkpoint import Checkpoint
from generator.devices import is_out_of_memory
from generator.network import Generator
from generator.pixels import Pixels, to_pixels, to_tensor
from worker.metrics import WorkerMetrics
from worker.networks import Network
from worker.steps import has_steps
from worker.tiles import stylized_in_tiles, tile_helpers

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

BuildNetwork = Callable[[Generator], Network]


class NetworkCache:
    """Networks by the hash of their trunk; those used longest ago leave when the bytes run out."""

    def __init__(
        self,
        read: Callable[[str], bytes],
        build: BuildNetwork,
        limit_bytes: int,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._metrics = metrics or WorkerMetrics()
        self._read = read
        self._build = build
        self._limit_bytes = limit_bytes
        self._networks: OrderedDict[str, Network] = OrderedDict()

    def get(self, trunk: str) -> Network:
        """The network of a trunk. Raises CheckpointError, StyleNotFoundError, StoreUnavailableError."""
        if trunk not in self._networks:
            self._networks[trunk] = network = self._build(Checkpoint.from_bytes(self._read(trunk)).generator())
            self._metrics.loaded(network.engine, network.precision)
            self._evict()
            self._metrics.holds(len(self._networks), self._nbytes())
        self._networks.move_to_end(trunk)
        return self._networks[trunk]

    def __contains__(self, trunk: str) -> bool:
        return trunk in self._networks

    def _evict(self) -> None:
        """The newest one stays, even when it is larger than the limit by itself."""
        while len(self._networks) > 1 and self._nbytes() > self._limit_bytes:
            self._networks.popitem(last=False)
            self._metrics.evicted()

    def _nbytes(self) -> int:
        return sum(network.nbytes for network in self._networks.values())


class Engine:
    """Runs networks: pictures of ordinary size whole, in batches, and large ones one by one in tiles."""

    def __init__(self, networks: NetworkCache, *, tile_above_pixels: int, tile_side: int, scratch: Path) -> None:
        self._networks = networks
        self._tile_above_pixels = tile_above_pixels
        self._tile_side = tile_side
        self._scratch = scratch
        self._helpers = tile_helpers()

    def stylize(self, trunk: str, contents: Sequence[Pixels], styles: Sequence[Tensor]) -> list[Pixels]:
        """One pass over pictures of one size, each with its own style vector [S].

        Raises OutOfMemoryError when they do not fit into memory, and whatever ``NetworkCache.get`` raises.
        """
        try:
            network = self._networks.get(trunk)
            content = torch.stack([to_tensor(pixels) for pixels in contents])  # B,3,H,W
            return [to_pixels(picture) for picture in network.stylize(content, torch.stack(list(styles)))]
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise _out_of_memory(contents[0]) from error
            raise

    def is_large(self, content: Pixels) -> bool:
        """Whether a picture is not to be stylized whole."""
        height, width = content.shape[:2]
        return bool(height * width > self._tile_above_pixels)

    def stylize_in_tiles(self, trunk: str, content: Pixels, style: Tensor) -> Steps[float, None, Pixels]:
        """The same picture in bounded memory; yields after each tile how much of it is done.

        Networks that cannot be tiled run whole. Raises OutOfMemoryError, ScratchFullError, and whatever
        ``NetworkCache.get`` raises.
        """
        network = self._networks.get(trunk)
        if not has_steps(network.generator.config):
            return self.stylize(trunk, [content], [style])[0]
        try:
            return (
                yield from stylized_in_tiles(
                    network, content, style, side=self._tile_side, folder=self._scratch, helpers=self._helpers
                )
            )
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise _out_of_memory(content) from error
            raise
        except OSError as error:
            if error.errno in FULL:
                raise ScratchFullError(
                    "The worker's disk has no room for the maps of a picture of this size: try a smaller size."
                ) from error
            raise


def _out_of_memory(content: Pixels) -> OutOfMemoryError:
    height, width = content.shape[:2]
    return OutOfMemoryError(f"A picture of {width}×{height} does not fit into memory here: try a smaller size.")
