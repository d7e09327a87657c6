"""Instance normalisation in training: the same numbers as PyTorch's own, and a layout that stays."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it

from generator.instance_norm import instance_norm

SHAPES = [(2, 3, 8, 8), (1, 5, 2, 7), (3, 1, 33, 20)]


@pytest.mark.parametrize("shape", SHAPES)
def test_in_training_values_and_gradients_are_those_of_pytorch(shape: tuple[int, ...]) -> None:
    x = (3 + 2 * torch.randn(shape)).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(shape)
    theirs, ours = F.instance_norm(x, eps=1e-5), instance_norm(x)
    assert torch.allclose(ours, theirs, atol=1e-5)
    (wanted,) = torch.autograd.grad((theirs * weights).sum(), x)
    (found,) = torch.autograd.grad((ours * weights).sum(), x)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_in_training_maps_stay_in_the_layout_of_the_convolutions() -> None:
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    assert instance_norm(x).is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(instance_norm(x).square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mean", [10.0, 300.0])
def test_digits_are_kept_where_maps_are_nearly_flat(mean: float) -> None:
    """As in a clear sky: far from zero, with little on it."""
    x = (mean + torch.randn(2, 8, 128, 128)).to(memory_format=torch.channels_last).requires_grad_()
    reference = x.detach().double().requires_grad_()
    weights = torch.randn(x.shape)
    ours, truth = instance_norm(x), F.instance_norm(reference, eps=1e-5)
    assert torch.allclose(ours.double(), truth, atol=1e-4)
    (found,) = torch.autograd.grad((ours * weights).sum(), x)
    (wanted,) = torch.autograd.grad((truth * weights.double()).sum(), reference)
    assert torch.allclose(found.double(), wanted, atol=1e-3)


def test_half_precision_costs_training_no_more_than_its_rounding() -> None:
    exact = (5 + torch.randn(2, 4, 16, 16)).bfloat16().double()
    weights = torch.randn(exact.shape).bfloat16()
    x, reference = exact.bfloat16().requires_grad_(), exact.requires_grad_()
    normalised, wanted = instance_norm(x), F.instance_norm(reference, eps=1e-5)
    assert torch.allclose(normalised.double(), wanted, atol=0.02)
    (found,) = torch.autograd.grad((normalised * weights).sum(), x)
    (gradient,) = torch.autograd.grad((wanted * weights.double()).sum(), reference)
    assert float((found.double() - gradient).norm() / gradient.norm()) < 0.01


def test_a_map_of_one_pixel_has_nothing_but_its_mean() -> None:
    assert torch.equal(instance_norm(torch.randn(2, 3, 1, 1)), torch.zeros(2, 3, 1, 1))
