"""The engine on the CPU, with tiny generators."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from contract.errors import CheckpointError, OutOfMemoryError, ScratchFullError, StyleNotFoundError
from generator.checkpoint import Checkpoint, of_generator
from generator.network import Generator, GeneratorConfig
from generator.pixels import Pixels, to_pixels, to_tensor
from tests.conftest import run_to_end, tiny_bank
from worker.engine import Engine, NetworkCache
from worker.networks import TorchNetwork

CPU = torch.device("cpu")


class Shelf:
    """Trunks by name; notes what was read."""

    def __init__(self, **trunks: bytes) -> None:
        self.trunks = trunks
        self.read: list[str] = []

    def __call__(self, trunk: str) -> bytes:
        self.read.append(trunk)
        return self.trunks[trunk]


def size_of(bank: Checkpoint) -> int:
    return sum(tensor.nbytes for tensor in bank.generator().state_dict().values())


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def build(generator: Generator) -> TorchNetwork:
    return TorchNetwork(generator, CPU)


def engine_on(read: Callable[[str], bytes], scratch: Path = Path("nowhere"), tile_above_pixels: int = 10**9) -> Engine:
    networks = NetworkCache(read, build, 2**30)
    return Engine(networks, tile_above_pixels=tile_above_pixels, tile_side=64, scratch=scratch)


def engine_of(bank: Checkpoint, scratch: Path = Path("nowhere")) -> Engine:
    return engine_on(lambda _: bank.to_bytes(), scratch)


def in_tiles(engine: Engine, content: Pixels, style: Tensor) -> Pixels:
    return run_to_end(engine.stylize_in_tiles("trunk", content, style))[0]


def test_the_engine_makes_what_the_generator_makes() -> None:
    bank = tiny_bank("one", "two")
    generator = bank.generator()
    contents = [noise(37, 53, seed) for seed in range(3)]
    styles = [bank.styles[0], bank.styles[1], bank.styles.mean(dim=0)]
    stylized = engine_of(bank).stylize("trunk", contents, styles)
    with torch.inference_mode():
        batch = generator(torch.stack([to_tensor(content) for content in contents]), torch.stack(styles))
    assert all(np.array_equal(a, to_pixels(b)) for a, b in zip(stylized, batch, strict=True))


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    bank = tiny_bank("one", "two")
    engine = engine_of(bank)
    contents = [noise(32, 48, seed) for seed in range(3)]
    styles = [bank.styles[0], bank.styles[1], bank.styles[0]]
    together = engine.stylize("trunk", contents, styles)
    for content, style, picture in zip(contents, styles, together, strict=True):
        (alone,) = engine.stylize("trunk", [content], [style])
        # Sums may be taken in another order, which rounding may make one level of.
        assert np.abs(alone.astype(int) - picture).max() <= 1


def test_styles_make_a_difference() -> None:
    bank = tiny_bank("one", "two")
    one, two = engine_of(bank).stylize("trunk", [noise(32, 32)] * 2, list(bank.styles))
    assert np.abs(one.astype(int) - two).mean() > 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (16, 300), (301, 16), (99, 101)])
def test_the_result_has_the_size_of_the_content(height: int, width: int) -> None:
    bank = tiny_bank("one")
    (stylized,) = engine_of(bank).stylize("trunk", [noise(height, width)], [bank.styles[0]])
    assert stylized.shape == (height, width, 3)
    assert stylized.dtype == np.uint8


def test_a_trunk_is_read_once() -> None:
    bank = tiny_bank("one")
    shelf = Shelf(a=bank.to_bytes())
    cache = NetworkCache(shelf, build, 2**30)
    assert cache.get("a") is cache.get("a")
    assert shelf.read == ["a"]
    assert "a" in cache
    assert "b" not in cache


def test_the_trunks_used_longest_ago_leave_when_the_bytes_run_out() -> None:
    bank = tiny_bank("one")
    shelf = Shelf(a=bank.to_bytes(), b=bank.to_bytes(), c=bank.to_bytes())
    cache = NetworkCache(shelf, build, 2 * size_of(bank))
    for trunk in ("a", "b", "a", "c"):
        cache.get(trunk)
    assert [trunk in cache for trunk in "abc"] == [True, False, True]
    cache.get("b")
    assert [trunk in cache for trunk in "abc"] == [False, True, True]
    assert shelf.read == ["a", "b", "c", "b"]


def test_trunks_are_counted_by_their_bytes_and_not_by_their_number() -> None:
    small, large = tiny_bank("one", width=2), tiny_bank("one", width=8)
    shelf = Shelf(a=small.to_bytes(), b=small.to_bytes(), c=small.to_bytes(), large=large.to_bytes())
    cache = NetworkCache(shelf, build, size_of(large) + size_of(small))
    for trunk in ("a", "b", "c", "large"):
        cache.get(trunk)
    assert [trunk in cache for trunk in ("a", "b", "c", "large")] == [False, False, True, True]


def test_a_trunk_above_the_limit_is_kept_until_the_next() -> None:
    bank = tiny_bank("one")
    shelf = Shelf(a=bank.to_bytes(), b=bank.to_bytes())
    cache = NetworkCache(shelf, build, limit_bytes=1)
    cache.get("a")
    cache.get("a")
    assert shelf.read == ["a"]
    cache.get("b")
    assert "a" not in cache


def test_a_damaged_trunk_is_an_error_and_does_not_stay() -> None:
    bank = tiny_bank("one")
    shelf = Shelf(a=bank.to_bytes()[:-100])
    engine = engine_on(shelf)
    with pytest.raises(CheckpointError):
        engine.stylize("a", [noise(16, 16)], [bank.styles[0]])
    shelf.trunks["a"] = bank.to_bytes()
    assert engine.stylize("a", [noise(16, 16)], [bank.styles[0]])[0].shape == (16, 16, 3)


def test_a_trunk_of_another_shape_than_its_header_says_is_an_error() -> None:
    narrow, wide = tiny_bank("one", width=2), tiny_bank("one", width=4)
    liar = Checkpoint(wide.config, narrow.trunk, wide.names, wide.styles)
    with pytest.raises(CheckpointError):
        engine_of(liar).stylize("trunk", [noise(16, 16)], [wide.styles[0]])


def test_what_the_store_raises_comes_through() -> None:
    def gone(_: str) -> bytes:
        raise StyleNotFoundError("deleted")

    with pytest.raises(StyleNotFoundError):
        engine_on(gone).stylize("trunk", [noise(16, 16)], [torch.zeros(1)])


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_out_of_memory_is_told_apart_from_other_failures(failure: Exception) -> None:
    bank = tiny_bank("one")
    networks = NetworkCache(lambda _: bank.to_bytes(), build, 2**30)

    def fail(*_: object) -> None:
        raise failure

    networks.get("trunk").generator.register_forward_pre_hook(fail)
    engine = Engine(networks, tile_above_pixels=10**9, tile_side=64, scratch=Path("nowhere"))
    with pytest.raises(OutOfMemoryError, match="20×16"):
        engine.stylize("trunk", [noise(16, 20)], [bank.styles[0]])


def test_other_failures_of_the_network_are_not_called_out_of_memory() -> None:
    bank = tiny_bank("one")
    with pytest.raises(RuntimeError):
        engine_of(bank).stylize("trunk", [noise(16, 16)], [bank.styles[0][:-1]])


def test_pictures_above_the_threshold_are_large() -> None:
    engine = engine_on(lambda _: b"", tile_above_pixels=32 * 32)
    assert not engine.is_large(noise(32, 32))
    assert engine.is_large(noise(32, 33))


def test_tiles_make_the_same_picture(tmp_path: Path) -> None:
    bank = tiny_bank("one")
    engine = engine_of(bank, tmp_path)
    content = noise(150, 201)
    (whole,) = engine.stylize("trunk", [content], [bank.styles[0]])
    tiled = in_tiles(engine, content, bank.styles[0])
    difference = np.abs(whole.astype(int) - tiled)
    assert difference.max() <= 2  # maps are kept in float16
    assert difference.mean() < 0.1
    assert not list(tmp_path.iterdir())


def test_networks_that_cannot_be_tiled_run_whole(tmp_path: Path) -> None:
    generator = Generator(GeneratorConfig("pyramid", width=2)).eval()
    bank = of_generator(generator, ("one",), generator.neutral_style()[None])
    content = noise(100, 70)
    (whole,) = engine_of(bank).stylize("trunk", [content], [bank.styles[0]])
    assert np.array_equal(in_tiles(engine_of(bank, tmp_path), content, bank.styles[0]), whole)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write more bytes into a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    bank = tiny_bank("one")
    engine = engine_of(bank, tmp_path)
    with files_of_at_most(10_000), pytest.raises(ScratchFullError, match="smaller size"):
        in_tiles(engine, noise(150, 201), bank.styles[0])
    assert in_tiles(engine, noise(150, 201), bank.styles[0]).shape == (150, 201, 3)


def test_a_folder_that_is_not_there_is_no_full_disk() -> None:
    bank = tiny_bank("one")
    with pytest.raises(FileNotFoundError):
        in_tiles(engine_of(bank, Path("nowhere")), noise(150, 201), bank.styles[0])
