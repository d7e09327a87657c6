"""The stylizer: a whole job, on a real store, with a tiny generator."""

import io
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from contract.errors import (
    BlendError,
    BrokenImageError,
    ImageLostError,
    ImageTooLargeError,
    StyleNotFoundError,
    UnsupportedImageError,
)
from contract.images import ImageRef, ImageStore, MediaType, PictureSize
from contract.jobs import StyleShare, StylizeJob
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleDescription, StyleRef, StyleSource, StyleStore
from generator.checkpoint import CONTENT_ROW, Checkpoint, trunk_of, vector_file, vector_of
from generator.pixels import Pixels, to_pixels, to_tensor
from tests.conftest import publish_tiny, tiny_bank, until
from worker.batcher import Batcher
from worker.colours import towards_palette_of, with_colours_of
from worker.engine import Engine, NetworkCache
from worker.memory import DecodedPictures
from worker.networks import TorchNetwork
from worker.stylizer import Stopwatch, Stylizer, size_of

MAX_PIXELS = 100_000
TILE_ABOVE = 20_000
SECONDS = 30
TINY = StyleRef(name="tiny", version=1)


@pytest.fixture
def images(settings: ContractSettings) -> ImageStore:
    return ImageStore(open_storage(settings.store_url))


@pytest.fixture
def memory() -> DecodedPictures:
    return DecodedPictures(MAX_PIXELS, whole_pixels=TILE_ABOVE)


@pytest.fixture
def stylizer(images: ImageStore, styles: StyleStore, memory: DecodedPictures, tmp_path: Path) -> Iterator[Stylizer]:
    publish_tiny(styles, "tiny", seed=1)
    networks = NetworkCache(styles.read_trunk, lambda generator: TorchNetwork(generator, torch.device("cpu")), 2**30)
    batcher = Batcher(Engine(networks, tile_above_pixels=TILE_ABOVE, tile_side=64, scratch=tmp_path), 10**6)
    yield Stylizer(images, styles, batcher, max_pixels=MAX_PIXELS, memory=memory)
    batcher.close()


def photograph(width: int = 45, height: int = 33, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


def job(content: ImageRef, media_type: MediaType = MediaType.PNG, size: int | None = None) -> StylizeJob:
    return StylizeJob(content=content, styles=(StyleShare(style=TINY),), size=size, media_type=media_type, quality=90)


def blend(content: ImageRef, strength: float = 1.0, **weights: float) -> StylizeJob:
    """A job for the first versions of these styles."""
    shares = [StyleShare(style=StyleRef(name=name, version=1), weight=weight) for name, weight in weights.items()]
    return job(content).model_copy(update={"styles": tuple(shares), "strength": strength})


BANK = tiny_bank(CONTENT_ROW, "wave", "night", "sun", seed=3)


@pytest.fixture
def bank(styles: StyleStore) -> Checkpoint:
    """A bank whose first row is that of the content, and whose others are in the store."""
    for name in BANK.names[1:]:
        publish(styles, name, trunk_of(BANK), vector_of(BANK, name))
    return BANK


def publish(styles: StyleStore, name: str, trunk: bytes, vector: bytes) -> None:
    description = StyleDescription(
        name=name, source=StyleSource.TRAINED, architecture="residual", norm="instance", width=BANK.config.width
    )
    styles.publish(description, trunk, vector)


def row(name: str) -> Tensor:
    return BANK.styles[BANK.names.index(name)]


@torch.inference_mode()
def drawn(bank: Checkpoint, content: bytes, vector: Tensor) -> Pixels:
    """What the generator of a bank makes of a photograph with this style vector."""
    content_tensor = to_tensor(np.array(Image.open(io.BytesIO(content)).convert("RGB")))
    return to_pixels(bank.generator()(content_tensor[None], vector[None])[0])


def stylized(stylizer: Stylizer, images: ImageStore, request: StylizeJob) -> Pixels:
    result = stylizer.stylize(request, Stopwatch(), Keeping())
    return np.asarray(Image.open(io.BytesIO(images.open(result.image))).convert("RGB"))


class Keeping:
    """An attempt that holds as long as it is wanted, and writes down its turns."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.turns: list[str] = []
        self.fractions: list[float] = []

    def holds(self) -> bool:
        return self.wanted

    def waits(self) -> None:
        self.turns.append("waits")

    def works(self) -> None:
        self.turns.append("works")

    def progressed(self, fraction: float) -> None:
        self.fractions.append(fraction)


def test_a_job_makes_the_picture_that_its_generator_makes(stylizer: Stylizer, images: ImageStore) -> None:
    content = photograph()
    bank = tiny_bank("tiny", seed=1)
    assert np.array_equal(stylized(stylizer, images, job(images.put(content))), drawn(bank, content, bank.styles[0]))


def test_the_result_says_what_it_is(stylizer: Stylizer, images: ImageStore) -> None:
    result = stylizer.stylize(job(images.put(photograph()), MediaType.WEBP, size=90), Stopwatch(), Keeping())
    data = images.open(result.image)
    assert (result.media_type, result.width, result.height, result.bytes) == (MediaType.WEBP, 90, 66, len(data))
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == ("WEBP", (90, 66))


def test_every_stage_is_timed(stylizer: Stylizer, images: ImageStore) -> None:
    watch = Stopwatch()
    stylizer.stylize(job(images.put(photograph())), watch, Keeping())
    timings = watch.timings()
    assert timings.queue_seconds is None
    for seconds in (timings.decode_seconds, timings.compute_seconds, timings.encode_seconds):
        assert seconds is not None
        assert seconds > 0


def test_alpha_goes_around_the_generator(stylizer: Stylizer, images: ImageStore) -> None:
    content = photograph(mode="RGBA")
    result = stylizer.stylize(job(images.put(content)), Stopwatch(), Keeping())
    stylized = Image.open(io.BytesIO(images.open(result.image)))
    assert stylized.mode == "RGBA"
    assert stylized.getchannel("A").tobytes() == Image.open(io.BytesIO(content)).getchannel("A").tobytes()


def test_a_picture_that_has_left_the_store_is_lost(stylizer: Stylizer, images: ImageStore) -> None:
    content = images.put(photograph())
    images.sweep(timedelta(seconds=-60), in_use=())
    with pytest.raises(ImageLostError):
        stylizer.stylize(job(content), Stopwatch(), Keeping())


def test_what_was_measured_before_a_failure_is_kept(stylizer: Stylizer, images: ImageStore) -> None:
    watch = Stopwatch()
    with pytest.raises(BrokenImageError):
        stylizer.stylize(job(images.put(photograph()[:-400])), watch, Keeping())
    assert list(watch.seconds) == ["decode_seconds"]


def test_a_picture_above_the_limit_is_refused(stylizer: Stylizer, images: ImageStore) -> None:
    with pytest.raises(ImageTooLargeError):
        stylizer.stylize(job(images.put(photograph(400, 300))), Stopwatch(), Keeping())


def test_an_unknown_version_of_a_style_is_not_found(stylizer: Stylizer, images: ImageStore) -> None:
    shares = (StyleShare(style=StyleRef(name="tiny", version=9)),)
    request = job(images.put(photograph())).model_copy(update={"styles": shares})
    with pytest.raises(StyleNotFoundError):
        stylizer.stylize(request, Stopwatch(), Keeping())


def test_a_version_published_later_is_found(stylizer: Stylizer, images: ImageStore, styles: StyleStore) -> None:
    request = job(images.put(photograph()))
    first = stylizer.stylize(request, Stopwatch(), Keeping())
    publish_tiny(styles, "tiny", seed=2)
    again = stylizer.stylize(request, Stopwatch(), Keeping())
    shares = (StyleShare(style=StyleRef(name="tiny", version=2)),)
    second = stylizer.stylize(request.model_copy(update={"styles": shares}), Stopwatch(), Keeping())
    assert again.sha256 == first.sha256
    assert second.sha256 != first.sha256


def test_a_job_that_nobody_wants_is_cancelled_and_leaves_nothing(stylizer: Stylizer, images: ImageStore) -> None:
    watch = Stopwatch()
    with pytest.raises(CancelledError):
        stylizer.stylize(job(images.put(photograph())), watch, Keeping(wanted=False))
    assert "encode_seconds" not in watch.seconds


def test_a_job_says_when_it_waits_for_the_engine_and_when_its_turn_has_come(
    stylizer: Stylizer, images: ImageStore
) -> None:
    keeping = Keeping()
    stylizer.stylize(job(images.put(photograph())), Stopwatch(), keeping)
    assert keeping.turns == ["waits", "works", "waits", "works"]


def test_a_large_picture_is_the_same_and_its_progress_is_told(stylizer: Stylizer, images: ImageStore) -> None:
    keeping = Keeping()
    content = photograph(150, 140)
    bank = tiny_bank("tiny", seed=1)
    result = stylizer.stylize(job(images.put(content)), Stopwatch(), keeping)
    pixels = np.array(Image.open(io.BytesIO(images.open(ImageRef(sha256=result.sha256, bytes=result.bytes)))))
    assert np.abs(pixels.astype(int) - drawn(bank, content, bank.styles[0])).max() <= 1
    assert keeping.fractions == sorted(keeping.fractions)
    assert keeping.fractions[-1] == pytest.approx(1)


# --- Room in memory ---


def test_a_picture_that_is_enlarged_waits_for_as_much_room_as_its_result_takes(
    stylizer: Stylizer, images: ImageStore, memory: DecodedPictures
) -> None:
    """Its file of 1,485 pixels would fit, its result of 66,000 does not."""
    watch, keeping = Stopwatch(), Keeping()
    request = job(images.put(photograph()), size=300)
    with ThreadPoolExecutor(1) as pool:
        with memory.reserved(PictureSize(50_000, 50_000), lambda: True):
            enlarged = pool.submit(stylizer.stylize, request, watch, keeping)
            until(lambda: bool(memory._large._waiting), SECONDS, "the enlarged one to wait")
            assert (keeping.turns, watch.seconds) == (["waits"], {})
        result = enlarged.result(SECONDS)
    assert (result.width, result.height) == (300, 220)


def test_a_picture_that_is_scaled_down_has_the_room_of_its_result_once_it_is_decoded(
    stylizer: Stylizer, images: ImageStore, memory: DecodedPictures
) -> None:
    used: list[int] = []

    class Watching(Keeping):
        def works(self) -> None:
            used.append(memory._large._used)

    stylizer.stylize(job(images.put(photograph(300, 200)), size=30), Stopwatch(), Watching())
    assert used == [300 * 200, 30 * 20]
    assert memory._large._used == 0


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ((45, 33), None, PictureSize(1485, 1485)),
        ((45, 33), 90, PictureSize(1485, 5940)),
        ((33, 45), 90, PictureSize(1485, 5940)),
        ((400, 20), 40, PictureSize(8000, 80)),
    ],
)
def test_the_size_of_a_picture_is_that_of_its_file_and_of_its_result(
    sides: tuple[int, int], size: int | None, expected: PictureSize
) -> None:
    assert size_of(photograph(*sides), size) == expected


def test_what_is_no_picture_has_no_size() -> None:
    with pytest.raises(UnsupportedImageError):
        size_of(b"not a picture", 90)


# --- Blends, strength, colours ---


@pytest.mark.parametrize(
    "weights",
    [
        {"wave": 1.0},
        {"wave": 0.5, "night": 0.5},
        {"wave": 0.25, "night": 0.75},
        {"wave": 0.2, "night": 0.3, "sun": 0.5},
        {"wave": 0.5, "sun": 0.25, "night": 0.25},
    ],
    ids=str,
)
def test_a_blend_is_what_the_generator_makes_of_the_mixed_vector(
    stylizer: Stylizer, images: ImageStore, bank: Checkpoint, weights: dict[str, float]
) -> None:
    content = photograph()
    mixed = torch.stack([weight * row(name) for name, weight in weights.items()]).sum(dim=0)
    expected = drawn(bank, content, mixed)
    assert np.array_equal(stylized(stylizer, images, blend(images.put(content), **weights)), expected)
    others = [drawn(bank, content, row(name)) for name in bank.names if weights != {name: 1.0}]
    assert not any(np.array_equal(other, expected) for other in others)


def test_styles_without_a_common_trunk_do_not_blend(
    stylizer: Stylizer, images: ImageStore, bank: Checkpoint, styles: StyleStore
) -> None:
    with pytest.raises(BlendError, match=r"tiny@1:0\.5,wave@1:0\.5 cannot be blended"):
        stylizer.stylize(blend(images.put(photograph()), tiny=0.5, wave=0.5), Stopwatch(), Keeping())


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_strength_goes_from_the_content_row_through_the_style_and_beyond(
    stylizer: Stylizer, images: ImageStore, bank: Checkpoint, strength: float
) -> None:
    content = photograph()
    vector = row(CONTENT_ROW) + strength * (row("wave") - row(CONTENT_ROW))
    made = stylized(stylizer, images, blend(images.put(content), strength, wave=1.0))
    # Two ways to write one line differ in the last bit, and so may a pixel by a level, or a few where colours spread.
    expected = in_palette(content, drawn(bank, content, vector), strength)
    assert np.abs(made.astype(int) - expected).max() <= (1 if strength >= 1 else 6)
    pictures = {name: in_palette(content, drawn(bank, content, row(name)), strength) for name in (CONTENT_ROW, "wave")}
    same = {name: bool(np.array_equal(made, picture)) for name, picture in pictures.items()}
    assert same == {CONTENT_ROW: strength == 0, "wave": strength == 1}


def test_a_blend_may_be_set_to_a_strength(stylizer: Stylizer, images: ImageStore, bank: Checkpoint) -> None:
    content = photograph()
    mixed = 0.5 * row("wave") + 0.5 * row("night")
    made = stylized(stylizer, images, blend(images.put(content), 0.5, wave=0.5, night=0.5))
    expected = drawn(bank, content, torch.lerp(row(CONTENT_ROW), mixed, 0.5))
    assert np.array_equal(made, in_palette(content, expected, 0.5))


def in_palette(content: bytes, drawn: Pixels, strength: float) -> Pixels:
    """A drawn picture as it is published at this strength."""
    photograph = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    return towards_palette_of(photograph, drawn, 1 - strength) if strength < 1 else drawn


def test_without_a_content_row_there_is_no_strength_but_one(stylizer: Stylizer, images: ImageStore) -> None:
    content = images.put(photograph())
    for strength in (0.0, 0.5, 1.5):
        with pytest.raises(BlendError, match="leave strength at 1"):
            stylizer.stylize(blend(content, strength, tiny=1.0), Stopwatch(), Keeping())
    stylizer.stylize(blend(content, 1.0, tiny=1.0), Stopwatch(), Keeping())


def test_the_row_of_an_ordinary_style_is_not_taken_for_that_of_the_content(
    stylizer: Stylizer, images: ImageStore, styles: StyleStore
) -> None:
    """Whoever publishes a whole bank as its own trunk has a first row, and it is a style."""
    whole = tiny_bank("wave", "night", seed=4)
    publish(styles, "wave", whole.to_bytes(), vector_of(whole, "wave"))
    with pytest.raises(BlendError):
        stylizer.stylize(blend(images.put(photograph()), 0.5, wave=1.0), Stopwatch(), Keeping())


def test_a_style_fitted_later_blends_with_those_of_its_trunk(
    stylizer: Stylizer, images: ImageStore, bank: Checkpoint, styles: StyleStore
) -> None:
    fitted = row("wave") + 0.1
    publish(styles, "fitted", styles.read_trunk(styles.get("wave").trunk), vector_file(fitted))
    content = photograph()
    made = stylized(stylizer, images, blend(images.put(content), fitted=0.5, night=0.5))
    assert np.array_equal(made, drawn(bank, content, 0.5 * fitted + 0.5 * row("night")))


def test_the_colours_are_kept_when_that_is_asked_for(stylizer: Stylizer, images: ImageStore) -> None:
    content = photograph()
    request = job(images.put(content)).model_copy(update={"preserve_color": True})
    plain = stylized(stylizer, images, job(images.put(content)))
    kept = stylized(stylizer, images, request)
    assert np.array_equal(kept, with_colours_of(np.array(Image.open(io.BytesIO(content))), plain))
    assert not np.array_equal(kept, plain)


def test_colours_of_a_resized_photograph_are_kept_and_alpha_goes_around(stylizer: Stylizer, images: ImageStore) -> None:
    content = images.put(photograph(mode="RGBA"))
    request = job(content, size=90)
    plain = stylizer.stylize(request, Stopwatch(), Keeping())
    kept = stylizer.stylize(request.model_copy(update={"preserve_color": True}), Stopwatch(), Keeping())
    assert (kept.width, kept.height) == (plain.width, plain.height) == (90, 66)
    pictures = [Image.open(io.BytesIO(images.open(result.image))) for result in (plain, kept)]
    alphas = [picture.getchannel("A").tobytes() for picture in pictures]
    assert alphas[0] == alphas[1]
    assert kept.sha256 != plain.sha256
