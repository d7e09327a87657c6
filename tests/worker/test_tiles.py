"""Large pictures in tiles: exactly what the whole would be."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generator.network import Generator, GeneratorConfig
from generator.pixels import Pixels, to_pixels, to_tensor
from tests.conftest import run_to_end, tiny_bank
from worker.choice import psnr
from worker.kept import Kept
from worker.networks import Affine, GraphNetwork, TorchNetwork
from worker.runtimes import MnnRuntime, OpenVinoRuntime
from worker.steps import Step, has_steps, steps
from worker.tiles import (
    Box,
    FloatOverflowError,
    ScratchMap,
    Statistics,
    halo_of,
    stylized_in_tiles,
    tile_helpers,
    tiles,
)

CPU = torch.device("cpu")
BANK = tiny_bank("one", width=4)
STYLE = BANK.styles[0]
HELPERS = tile_helpers()


def network() -> TorchNetwork:
    return TorchNetwork(BANK.generator(), CPU)


def photograph(height: int, width: int) -> Pixels:
    """Smooth colours with noise: statistics differ from part to part, as in photographs."""
    rows, columns = np.mgrid[0:height, 0:width]
    ramps = [rows / height, columns / width, np.sin(rows / 9) * np.cos(columns / 14) / 2 + 0.5]
    noise = np.random.default_rng(0).normal(0, 0.1, (height, width, 3))
    return ((np.stack(ramps, axis=2) * 0.8 + noise).clip(0, 1) * 255).astype(np.uint8)


def whole(content: Pixels) -> Pixels:
    return to_pixels(network().stylize(to_tensor(content)[None], STYLE[None])[0])


def tiled(content: Pixels, folder: Path, side: int = 64) -> tuple[Pixels, list[float]]:
    """The picture and what was said of its progress."""
    return run_to_end(stylized_in_tiles(network(), content, STYLE, side=side, folder=folder, helpers=HELPERS))


@pytest.mark.parametrize(
    ("height", "width"),
    [(128, 192), (150, 201), (64, 64), (65, 63), (16, 300), (301, 16), (40, 40), (129, 128), (131, 259)],
)
def test_tiles_make_what_the_whole_makes(height: int, width: int, tmp_path: Path) -> None:
    content = photograph(height, width)
    stylized, _ = tiled(content, tmp_path)
    assert stylized.shape == content.shape
    difference = np.abs(stylized.astype(int) - whole(content))
    assert difference.max() <= 2  # maps are kept in float16
    assert difference.mean() < 0.15


@pytest.mark.parametrize("engine", ["mnn", "openvino"])
def test_engines_make_tiles_of_the_same_picture(engine: str, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "engine")
    graphs = GraphNetwork(BANK.generator(), MnnRuntime(kept) if engine == "mnn" else OpenVinoRuntime(kept, "float32"))
    for height, width in ((150, 201), (131, 259)):
        content = photograph(height, width)
        stylized, _ = run_to_end(stylized_in_tiles(graphs, content, STYLE, side=64, folder=tmp_path, helpers=HELPERS))
        difference = np.abs(stylized.astype(int) - whole(content))
        assert difference.max() <= 2
        assert difference.mean() < 0.15


def test_tiles_are_the_same_in_the_precision_that_the_processor_has(tmp_path: Path) -> None:
    """Where that is bfloat16, maps are kept in it."""
    graphs = GraphNetwork(BANK.generator(), OpenVinoRuntime(Kept(tmp_path / "engine")))
    content = photograph(150, 201)
    stylized, _ = run_to_end(stylized_in_tiles(graphs, content, STYLE, side=64, folder=tmp_path, helpers=HELPERS))
    untiled = to_pixels(graphs.stylize(to_tensor(content)[None], STYLE[None])[0])
    truth = to_tensor(whole(content))
    tiled_error, error = (10 ** (-psnr(to_tensor(picture), truth) / 20) for picture in (stylized, untiled))
    assert tiled_error < max(1.5 * error, 1 / 255)


def test_helpers_take_one_core_each_and_leave_other_threads_as_they_were() -> None:
    torch.set_num_threads(2)
    try:
        helpers = tile_helpers()
        assert helpers.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)  # as in all tests


def test_threads_that_wait_are_asleep() -> None:
    """It is read when PyTorch is loaded, so nothing may load it before the worker has said so."""
    code = "import os, sys, worker; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "PASSIVE"]


def test_the_difference_across_the_borders_of_tiles_is_no_larger_than_elsewhere(tmp_path: Path) -> None:
    content = photograph(192, 256)
    stylized, _ = tiled(content, tmp_path)
    wrong = np.abs(np.diff(stylized.astype(int) - whole(content), axis=1)).mean(
        axis=(0, 2)
    )  # between columns n and n+1
    seams = [63, 127, 191]
    assert wrong[seams].max() <= np.delete(wrong, seams).max() + 0.01


def test_tiles_that_normalise_themselves_would_be_another_picture() -> None:
    """What the exact way is for: the test above could not fail otherwise."""
    content = photograph(128, 256)
    halves = np.concatenate([whole(content[:, :128]), whole(content[:, 128:])], axis=1)
    assert np.abs(halves.astype(int) - whole(content)).mean() > 3


def test_progress_goes_up_to_one(tmp_path: Path) -> None:
    _, fractions = tiled(photograph(130, 130), tmp_path)
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.05
    assert fractions[-1] == pytest.approx(1)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_nothing_is_left_in_the_folder_and_no_file_stays_open(tmp_path: Path) -> None:
    before = open_files()
    work = stylized_in_tiles(network(), photograph(130, 130), STYLE, side=64, folder=tmp_path, helpers=HELPERS)
    while open_files() < before + 3:
        next(work)
    work.close()
    assert open_files() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files in /proc")
def test_maps_take_48_bytes_for_each_pixel_of_the_picture(tmp_path: Path) -> None:
    """With a network of full width; they are as long as what has been written."""
    content = photograph(64, 96)
    work = stylized_in_tiles(network(), content, STYLE, side=64, folder=tmp_path, helpers=HELPERS)
    sizes = [sum(scratch_files(tmp_path)) for _ in work]
    width = BANK.config.width / GeneratorConfig.width
    assert max(sizes) == 48 * width * 64 * 96


def scratch_files(folder: Path) -> list[int]:
    """The sizes of the open files without a name in the folder."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if descriptor.readlink().is_relative_to(folder):
                found.append(descriptor.stat().st_size)
    return found


class Loud(TorchNetwork):
    """A network whose kept maps are too large for float16; the norm behind each takes that out again."""

    def sweep(self, first: int, last: int, *, leading: bool) -> Callable[[Tensor, Mapping[int, Affine]], Tensor]:
        run = super().sweep(first, last, leading=leading)
        chain = steps(self.generator)
        kept = chain[last].stride == chain[last - 1].stride == 2 or chain[last].opens_block or chain[last].closes_block

        def louder(x: Tensor, affines: Mapping[int, Affine]) -> Tensor:
            return run(x, affines) * (1e6 if kept else 1)

        return louder


def test_activations_too_large_for_half_precision_are_kept_in_single_precision(tmp_path: Path) -> None:
    content = photograph(100, 130)
    loud = Loud(BANK.generator(), CPU)
    stylized, _ = run_to_end(stylized_in_tiles(loud, content, STYLE, side=64, folder=tmp_path, helpers=HELPERS))
    assert np.abs(stylized.astype(int) - whole(content)).max() <= 1


class Rounding(TorchNetwork):
    """A network that computes in bfloat16, as far as tiles can see."""

    sweep_dtype = torch.bfloat16

    def sweep(self, first: int, last: int, *, leading: bool) -> Callable[[Tensor, Mapping[int, Affine]], Tensor]:
        run = super().sweep(first, last, leading=leading)
        return lambda x, affines: run(x, affines).bfloat16()


@pytest.mark.parametrize("strength", [1.0, 1e6])
def test_maps_in_bfloat16_make_the_same_picture_up_to_rounding(tmp_path: Path, strength: float) -> None:
    """bfloat16 holds any value, and the sums of the residual blocks are in float16, which does not."""
    rounding, content = Rounding(BANK.generator(), CPU), photograph(100, 130)
    sizes = rounding.generator.style_sizes
    start = sum(sizes[:-4])  # of the last step that closes a block; two upsampling ones and the output layer follow
    style = STYLE.clone()
    style[start : start + sizes[-4]] *= strength
    truth = rounding.stylize(to_tensor(content)[None], style[None])[0]
    stylized, _ = run_to_end(stylized_in_tiles(rounding, content, style, side=64, folder=tmp_path, helpers=HELPERS))
    assert psnr(to_tensor(stylized), truth.clamp(0, 1)) > 30


# --- The parts ---


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(1, 40),
    halo=st.integers(0, 12),
)
def test_cores_cover_everything_once_and_windows_hold_them_with_their_halo(
    height: int, width: int, side: int, halo: int
) -> None:
    covered = np.zeros((height, width), int)
    sizes = set()
    for core, window in tiles(height, width, side, halo):
        covered[core.slices] += 1
        assert 0 <= window.top <= max(0, core.top - halo)
        assert min(height, core.bottom + halo) <= window.bottom <= height
        assert 0 <= window.left <= max(0, core.left - halo)
        assert min(width, core.right + halo) <= window.right <= width
        sizes.add((window.bottom - window.top, window.right - window.left))
    assert (covered == 1).all()
    assert len(sizes) == 1


@given(parts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_statistics_of_parts_are_those_of_the_whole(parts: list[tuple[int, int]], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    pieces = [torch.randn((1, 3, *size), generator=random) * 5 + 1000 for size in parts]
    statistics = Statistics(3)
    for piece in pieces:
        statistics.add(piece)
    together = torch.cat([piece.reshape(1, 3, 1, -1) for piece in pieces], dim=3)
    gamma, beta = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 3.0, -1.0])
    scale, shift = statistics.affine((gamma, beta))
    variance, mean = torch.var_mean(together.double(), dim=(0, 2, 3), correction=0)
    truth = gamma / (variance + 1e-5).sqrt()
    assert torch.allclose(scale.double(), truth, rtol=1e-4)
    assert torch.allclose(shift.double(), beta - mean * truth, rtol=1e-3, atol=1e-3)


def test_the_halo_is_what_the_convolutions_see() -> None:
    """Changing a pixel of the input changes the output up to the halo, and not beyond."""
    chain = steps(BANK.generator())
    for first, last in ((0, 0), (0, 1), (0, 2), (3, 3), (13, 13), (13, 14), (13, 15)):
        assert reach(chain[first : last + 1]) <= halo_of(chain[first : last + 1])
    assert [halo_of(chain[first : last + 1]) for first, last in ((0, 2), (3, 3), (13, 15))] == [7, 1, 2]


def reach(chain: list[Step]) -> int:
    """How far outputs are, in pixels of the input, from an input pixel that they see."""
    side = 64
    x = torch.zeros((1, chain[0].convolution.in_channels, side, side), requires_grad=True)
    y = x
    for step in chain:
        if step.upsample:
            y = torch.nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
        y = step.convolution(y)
    middle = y.shape[-1] // 2
    (gradient,) = torch.autograd.grad(y[..., middle, middle].sum(), x)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    own = middle * side // y.shape[-1]
    return int(max(own - rows.min(), rows.max() - own))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_scratch_map_gives_back_what_was_written(dtype: torch.dtype, tmp_path: Path) -> None:
    scratch = ScratchMap(tmp_path, 5, 40, 30, dtype)
    values = torch.randn((1, 5, 40, 30)).to(dtype)
    for core, _ in tiles(40, 30, 16, 0):
        scratch.write(core, values[:, :, *core.slices].float())
    for _, window in tiles(40, 30, 16, 3):
        assert torch.equal(scratch.read(window), values[:, :, *window.slices])
    scratch.close()


def test_half_precision_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    scratch = ScratchMap(tmp_path, 1, 2, 2, torch.float16)
    with pytest.raises(FloatOverflowError):
        scratch.write(Box(0, 2, 0, 2), torch.full((1, 1, 2, 2), 70_000.0))
    scratch.close()


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig("pyramid", width=2),
        GeneratorConfig(norm="batch", width=2),
        GeneratorConfig(width=2, padding="zeros"),
    ],
    ids=str,
)
def test_generators_without_steps_are_told_apart(config: GeneratorConfig) -> None:
    assert not has_steps(config)
    with pytest.raises(AssertionError):
        steps(Generator(config))
