"""What one pass costs: engine × precision × size × width, as ratios to PyTorch's eager float32 in the same run.

    python -m benchmarks.engines [--sizes 256 512 1024 2048 4032x3024] [--engines mnn openvino openvino:int8 tiles]
        [--widths 32 16] [--rounds 5] [--device cpu] [--photograph FILE]

``tiles`` is the fastest of the engines (by the worker's own choice), tile by tile. Engines take turns, so that a busy
moment of the machine hits all of them; a figure is the median of the rounds. "of peak" is the network's own number of
operations (direct convolutions) in this time, as a part of the rate at which PyTorch multiplies two matrices of
2048×2048 in float32, measured at the start: Winograd's algorithm needs fewer operations and may come out above 1. The
engines are those of ``ATELIER_ENGINE``, with a precision behind a colon where it is not the default. Width 32 is a
built-in style; other widths have random weights.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from benchmarks.machine import describe
from contract.storage import open_storage
from contract.styles import StyleStore
from generator.checkpoint import Checkpoint, style_vector
from generator.network import Generator, GeneratorConfig
from generator.pixels import Pixels, to_tensor
from worker.choice import Probe, choose, psnr
from worker.networks import Network, TorchNetwork
from worker.runtimes import threads
from worker.steps import steps
from worker.tiles import TILE_SIDE, stylized_in_tiles, tile_helpers

STYLES = Path(__file__).resolve().parent.parent / "styles"
EAGER = "torch float32"


@dataclass
class Way:
    """One way to stylize, and how long it has taken."""

    name: str
    run: Callable[[Pixels], Tensor]
    """[H,W,3] → [3,H,W]"""
    quality: float = float("inf")
    seconds: list[float] = field(default_factory=list)


def photograph(width: int, height: int, path: Path | None) -> Pixels:
    """A picture of this size: of the one given, or of scikit-image's astronaut."""
    source = Image.open(path).convert("RGB") if path else Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    return np.array(source.resize((width, height), Image.Resampling.LANCZOS))


def probe(width: int, style: str) -> Probe:
    if width != GeneratorConfig.width:
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig(width=width)).eval()
        return Probe(generator, generator.neutral_style())
    store = StyleStore(open_storage(str(STYLES)))
    card = store.get(style)
    return Probe(Checkpoint.from_bytes(store.read_trunk(card.trunk)).generator(), style_vector(store.vector(card)))


def multiplications(generator: Generator, width: int, height: int) -> float:
    """Of the convolutions, computed directly, for a picture of this size."""
    total, scale = 0.0, 1.0
    for step in steps(generator):
        scale *= (2 if step.upsample else 1) / step.stride
        total += step.convolution.weight.numel() * scale * scale * width * height
    return total


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations in a second, of a product of two matrices of 2048×2048."""
    a = torch.randn(2048, 2048, device=device)
    return 2 * 2048**3 / statistics.median(timed(lambda: (a @ a).sum().item()) for _ in range(7))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ways(found: Probe, device: torch.device, asked: list[str], cache: Path) -> list[Way]:
    """Eager PyTorch, and what is asked for: ``engine``, ``engine:precision`` or ``tiles``."""

    def build(engine: str, precision: str) -> Network:
        build_network = choose(device, engine, precision, cache, lambda: found)
        return build_network(copy.deepcopy(found.generator))

    def whole(network: Network) -> Callable[[Pixels], Tensor]:
        return lambda content: network.stylize(to_tensor(content)[None], found.style[None])[0]

    listed = [Way(EAGER, whole(TorchNetwork(copy.deepcopy(found.generator), device)))]
    for name in asked:
        engine, _, precision = name.partition(":")
        if name == "tiles":
            listed.append(Way(name, in_tiles(build("", ""), found.style, cache)))
        else:
            listed.append(Way(name, whole(build(engine, precision))))
    return listed


def in_tiles(network: Network, style: Tensor, folder: Path) -> Callable[[Pixels], Tensor]:
    helpers = tile_helpers()

    def run(content: Pixels) -> Tensor:
        work = stylized_in_tiles(network, content, style, side=TILE_SIDE, folder=folder, helpers=helpers)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return to_tensor(done.value)

    return run


def measure(listed: list[Way], content: Pixels, rounds: int) -> None:
    """Runs all of them once to warm up and for their quality, then in turns."""
    truth = listed[0].run(content)
    for way in listed:
        stylized = way.run(content)
        way.quality = psnr(stylized, truth)
        way.seconds = []
    del truth, stylized
    for _ in range(rounds):
        for way in listed:
            way.seconds.append(timed(lambda way=way: way.run(content)))  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["256", "512", "1024", "2048", "4032x3024"])
    parser.add_argument("--engines", nargs="+", default=["mnn", "openvino", "openvino:int8", "tiles"])
    parser.add_argument("--widths", nargs="+", type=int, default=[GeneratorConfig.width, GeneratorConfig.width // 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--photograph", type=Path)
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    torch.set_num_threads(threads())
    rate = matrix_rate(device)
    print(describe())
    print(f"{arguments.rounds} rounds; matrix product {rate / 1e9:.0f} GFLOPS")
    print(f"{'width':>5} {'size':>11}  {'engine':20}{'seconds':>9}{'speed-up':>10}{'PSNR dB':>9}{'of peak':>9}")
    with tempfile.TemporaryDirectory() as cache:
        for network_width in arguments.widths:
            found = probe(network_width, arguments.style)
            listed = ways(found, device, arguments.engines, Path(cache))
            for size in arguments.sizes:
                width, _, height = size.partition("x")
                content = photograph(int(width), int(height or width), arguments.photograph)
                measure(listed, content, arguments.rounds)
                eager = statistics.median(listed[0].seconds)
                operations = 2 * multiplications(found.generator, content.shape[1], content.shape[0])
                for way in listed:
                    seconds = statistics.median(way.seconds)
                    print(
                        f"{network_width:5} {content.shape[1]:>5}×{content.shape[0]:<5}  {way.name:20}{seconds:9.3f}"
                        f"{eager / seconds:9.2f}×{way.quality:9.1f}{operations / seconds / rate:9.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
