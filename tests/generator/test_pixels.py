"""Pictures become tensors and come back unharmed."""

import numpy as np
import torch

from generator.pixels import IMAGENET_MEAN, IMAGENET_STD, for_descriptor, to_pixels, to_tensor


def test_all_256_values_survive_the_way_to_a_tensor_and_back() -> None:
    pixels = np.random.default_rng(0).permuted(np.arange(256, dtype=np.uint8)).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_pixels(to_tensor(pixels)), pixels)


def test_black_is_zero_white_is_one_and_channels_come_first() -> None:
    pixels = np.zeros((2, 5, 3), dtype=np.uint8)
    pixels[1, 4] = (255, 0, 51)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 2, 5)
    assert tensor.dtype == torch.float32
    assert torch.allclose(tensor[:, 1, 4], torch.tensor([1.0, 0.0, 0.2]))
    assert tensor.sum() == tensor[:, 1, 4].sum()


def test_a_tensor_does_not_share_memory_with_its_picture() -> None:
    pixels = np.zeros((1, 1, 3), dtype=np.uint8)
    tensor = to_tensor(pixels)
    pixels[:] = 255
    assert tensor.max() == 0


def test_values_outside_the_range_are_clamped() -> None:
    stylized = torch.tensor([-3.0, -0.001, 1.001])[:, None, None]
    assert to_pixels(stylized).tolist() == [[[0, 0, 255]]]


def test_values_are_rounded_to_the_nearest_pixel_and_not_cut_off() -> None:
    stylized = torch.tensor([10.4, 10.6, 254.6])[:, None, None] / 255
    assert to_pixels(stylized).tolist() == [[[10, 11, 255]]]


def test_stylized_pictures_in_half_precision_and_with_gradients_become_pixels() -> None:
    stylized = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert (to_pixels(stylized) == 128).all()


def test_pixels_lie_in_memory_as_pictures_are_written() -> None:
    assert to_pixels(torch.rand(3, 4, 6)).flags.c_contiguous


def test_the_descriptor_sees_zero_mean_and_unit_deviation() -> None:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    pictures = torch.stack([mean, mean + std, mean - 2 * std])[:, :, None, None].expand(-1, -1, 2, 3)
    seen = for_descriptor(pictures)
    assert seen.shape == (3, 3, 2, 3)
    for picture, expected in zip(seen, (0.0, 1.0, -2.0), strict=True):
        assert torch.allclose(picture, torch.tensor(expected), atol=1e-5)


def test_the_constants_are_those_of_imagenet() -> None:
    """In the order red, green, blue; the descriptor's weights were trained on these."""
    black, white = for_descriptor(torch.tensor([0.0, 1.0])[:, None, None, None].expand(-1, 3, 1, 1)).flatten(1)
    assert torch.allclose(black, torch.tensor([-2.1179, -2.0357, -1.8044]), atol=1e-4)
    assert torch.allclose(white, torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4)
