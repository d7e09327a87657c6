"""The stylizer: a whole job, on a real store, with a tiny generator."""

import io
from collections.abc import Iterator
from concurrent.futures import CancelledError
from datetime import timedelta

import numpy as np
import pytest
import torch
from PIL import Image

from contract.errors import BrokenImageError, ImageLostError, ImageTooLargeError, StyleNotFoundError
from contract.images import ImageRef, ImageStore, MediaType
from contract.jobs import StylizeJob
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleRef, StyleStore
from generator.pixels import to_pixels, to_tensor
from tests.conftest import publish_tiny, tiny_bank
from worker.batcher import Batcher
from worker.engine import TorchEngine, TrunkCache
from worker.stylizer import Stopwatch, Stylizer

MAX_PIXELS = 100_000
TINY = StyleRef(name="tiny", version=1)


@pytest.fixture
def images(settings: ContractSettings) -> ImageStore:
    return ImageStore(open_storage(settings.store_url))


@pytest.fixture
def stylizer(images: ImageStore, styles: StyleStore) -> Iterator[Stylizer]:
    publish_tiny(styles, "tiny", seed=1)
    cpu = torch.device("cpu")
    batcher = Batcher(TorchEngine(TrunkCache(styles.read_trunk, cpu, 2**30), cpu), 10**6)
    yield Stylizer(images, styles, batcher, max_pixels=MAX_PIXELS)
    batcher.close()


def photograph(width: int = 45, height: int = 33, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return out.getvalue()


def job(content: ImageRef, media_type: MediaType = MediaType.PNG, size: int | None = None) -> StylizeJob:
    return StylizeJob(content=content, style=TINY, size=size, media_type=media_type, quality=90)


class Keeping:
    """An attempt that holds as long as it is wanted, and writes down its turns."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.turns: list[str] = []

    def holds(self) -> bool:
        return self.wanted

    def waits(self) -> None:
        self.turns.append("waits")

    def works(self) -> None:
        self.turns.append("works")


def test_a_job_makes_the_picture_that_its_generator_makes(stylizer: Stylizer, images: ImageStore) -> None:
    content = photograph()
    result = stylizer.stylize(job(images.put(content)), Stopwatch(), Keeping())
    bank = tiny_bank("tiny", seed=1)
    with torch.inference_mode():
        tensor = to_tensor(np.array(Image.open(io.BytesIO(content))))
        expected = to_pixels(bank.generator()(tensor[None], bank.styles)[0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(images.open(result.image)))), expected)


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
    request = job(images.put(photograph())).model_copy(update={"style": StyleRef(name="tiny", version=9)})
    with pytest.raises(StyleNotFoundError):
        stylizer.stylize(request, Stopwatch(), Keeping())


def test_a_version_published_later_is_found(stylizer: Stylizer, images: ImageStore, styles: StyleStore) -> None:
    request = job(images.put(photograph()))
    first = stylizer.stylize(request, Stopwatch(), Keeping())
    publish_tiny(styles, "tiny", seed=2)
    again = stylizer.stylize(request, Stopwatch(), Keeping())
    second = stylizer.stylize(
        request.model_copy(update={"style": StyleRef(name="tiny", version=2)}), Stopwatch(), Keeping()
    )
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
    assert keeping.turns == ["waits", "works"]
