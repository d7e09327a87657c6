"""The perceptual loss: known values, and what must not change it."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from contract.errors import CheckpointError
from trainer.perceptual import (
    VGG19_LAYERS,
    Descriptor,
    LossConfig,
    PerceptualLoss,
    content_loss,
    gram_matrix,
    style_loss,
    total_variation_loss,
)

CONFIG = LossConfig()
SHALLOW = LossConfig(content_layer="relu2_1", style_layers=("relu1_1", "relu2_1"))


def pictures(count: int, seed: int = 0, size: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    patches = F.interpolate(torch.rand(count, 3, 4, 4, generator=draw), size=(size, size), mode="bilinear")
    return 0.8 * patches + 0.2 * torch.rand(count, 3, size, size, generator=draw)


@pytest.fixture(scope="module")
def shallow_loss(vgg: Path) -> PerceptualLoss:
    """For a bank of two styles, calibrated."""
    descriptor = Descriptor(vgg, SHALLOW.layers)
    descriptor.calibrate(pictures(8, seed=5))
    return PerceptualLoss(descriptor, SHALLOW).with_styles([*pictures(2, seed=6, size=40)])


# --- The terms -----------------------------------------------------------------------------------------------------


def test_a_gram_matrix_holds_the_mean_product_of_every_two_channels() -> None:
    features = torch.randn(2, 3, 4, 5)
    grams = gram_matrix(features)
    assert grams.shape == (2, 3, 3)
    for picture in range(2):
        for one in range(3):
            for other in range(3):
                products = [
                    float(features[picture, one, y, x] * features[picture, other, y, x])
                    for y in range(4)
                    for x in range(5)
                ]
                assert float(grams[picture, one, other]) == pytest.approx(sum(products) / 20, abs=1e-5)


def test_a_gram_matrix_does_not_know_where_things_are() -> None:
    features = torch.randn(1, 3, 4, 5)
    shuffled = features.flatten(2)[:, :, torch.randperm(20)].reshape(1, 3, 2, 10)
    assert torch.allclose(gram_matrix(shuffled), gram_matrix(features), atol=1e-6)


def test_content_loss_is_the_mean_squared_difference_of_each_picture() -> None:
    content = torch.randn(3, 2, 4, 5)
    stylized = content + torch.tensor([0.0, 2.0, -3.0])[:, None, None, None]
    assert torch.allclose(content_loss(stylized, content), torch.tensor([0.0, 4.0, 9.0]), atol=1e-5)


def test_style_loss_is_zero_for_the_style_and_one_for_a_picture_without_features() -> None:
    style = gram_matrix(torch.randn(1, 3, 4, 5)).expand(3, -1, -1)
    stylized = style * torch.tensor([1.0, 0.0, 3.0])[:, None, None]
    assert torch.allclose(style_loss(stylized, style), torch.tensor([0.0, 1.0, 4.0]))


def test_style_loss_does_not_depend_on_the_scale_of_the_features() -> None:
    stylized, style = gram_matrix(torch.randn(2, 3, 4, 5)), gram_matrix(torch.randn(2, 3, 4, 5))
    assert torch.allclose(style_loss(100 * stylized, 100 * style), style_loss(stylized, style))


def test_total_variation_is_zero_for_one_colour_and_counts_both_directions() -> None:
    flat = torch.full((3, 5, 5), 0.7)
    ramp = torch.linspace(0, 0.4, 5).expand(3, 5, 5)  # steps of 0.1
    both = torch.stack([flat, ramp, ramp.mT, ramp + 2 * ramp.mT])
    assert torch.allclose(total_variation_loss(both), torch.tensor([0.0, 0.01, 0.01, 0.05]), atol=1e-6)


# --- The descriptor ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_layers_are_the_rectified_outputs_of_vgg_19(vgg: Path) -> None:
    features = Descriptor(vgg, VGG19_LAYERS)(pictures(1))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "relu1_1": (1, 64, 32, 32),
        "relu1_2": (1, 64, 32, 32),
        "relu2_1": (1, 128, 16, 16),
        "relu2_2": (1, 128, 16, 16),
        "relu3_1": (1, 256, 8, 8),
        "relu3_2": (1, 256, 8, 8),
        "relu4_1": (1, 512, 4, 4),
    }
    assert all(f.min() == 0 and f.max() > 0 for f in features.values())


@torch.no_grad()
def test_the_weights_come_from_the_file_and_the_picture_is_normalised(vgg: Path) -> None:
    tensors = safetensors.torch.load_file(vgg)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    picture = pictures(1)
    seen = (picture - mean[:, None, None]) / std[:, None, None]
    expected = F.relu(F.conv2d(seen, tensors["features.0.weight"], tensors["features.0.bias"], padding=1))
    assert torch.allclose(Descriptor(vgg, ["relu1_1"])(picture)["relu1_1"], expected, atol=1e-5)


@torch.no_grad()
def test_calibration_brings_the_mean_activation_of_every_layer_to_one(vgg: Path) -> None:
    photographs = pictures(4)
    descriptor = Descriptor(vgg, VGG19_LAYERS)
    assert any(abs(float(f.mean()) - 1) > 0.1 for f in descriptor(photographs).values())
    descriptor.calibrate(photographs)
    for name, features in descriptor(photographs).items():
        assert float(features.mean()) == pytest.approx(1, abs=1e-3), name


@torch.no_grad()
def test_calibration_divides_each_layer_by_one_number(vgg: Path) -> None:
    """It must not change what the network distinguishes, which biases that are divided wrongly would."""
    picture = pictures(1, seed=1)
    before = Descriptor(vgg, VGG19_LAYERS)(picture)
    descriptor = Descriptor(vgg, VGG19_LAYERS)
    descriptor.calibrate(pictures(4))
    for name, features in descriptor(picture).items():
        scale = features.mean() / before[name].mean()
        assert torch.allclose(features, scale * before[name], rtol=1e-3, atol=1e-3), name


@torch.no_grad()
def test_a_second_calibration_changes_nothing(vgg: Path) -> None:
    descriptor = Descriptor(vgg, SHALLOW.layers)
    descriptor.calibrate(pictures(4))
    before = descriptor(pictures(1, seed=1))
    descriptor.calibrate(pictures(4))
    for name, features in descriptor(pictures(1, seed=1)).items():
        assert torch.allclose(features, before[name], rtol=1e-4, atol=1e-5)


def rescaled(vgg: Path, target: Path) -> Path:
    """The same network with each layer's activations at another scale: W·c, and b times all factors so far."""
    tensors = safetensors.torch.load_file(vgg)
    draw = torch.Generator().manual_seed(0)
    so_far = 1.0
    for name in sorted((n for n in tensors if n.endswith("weight")), key=lambda n: int(n.split(".")[1])):
        factor = float(torch.rand(1, generator=draw)) * 5 + 0.1
        so_far *= factor
        tensors[name] = tensors[name] * factor
        tensors[name.replace("weight", "bias")] = tensors[name.replace("weight", "bias")] * so_far
    safetensors.torch.save_file(tensors, target)
    return target


@torch.no_grad()
def test_the_losses_do_not_depend_on_the_scale_of_the_descriptor(vgg: Path, tmp_path: Path) -> None:
    stylized, content, style = pictures(2, seed=1), pictures(2, seed=2), pictures(1, seed=3)[0]
    seen = []
    for weights in (vgg, rescaled(vgg, tmp_path / "rescaled.safetensors")):
        descriptor = Descriptor(weights, CONFIG.layers)
        uncalibrated = descriptor(content)["relu3_1"]
        descriptor.calibrate(pictures(4))
        losses = PerceptualLoss(descriptor, CONFIG).with_styles([style])(stylized, content, torch.tensor([1, 1]))
        seen.append((uncalibrated, losses))
    (one_scale, one), (other_scale, other) = seen
    assert not torch.allclose(one_scale, other_scale, rtol=0.5)
    assert torch.allclose(one.content, other.content, rtol=1e-3)
    assert torch.allclose(one.style, other.style, rtol=1e-3)


def test_the_descriptor_is_never_trained(vgg: Path) -> None:
    descriptor = Descriptor(vgg, SHALLOW.layers)
    assert not any(weight.requires_grad for weight in descriptor.parameters())


def test_a_descriptor_needs_no_more_layers_than_its_losses(vgg: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(vgg)
    path = tmp_path / "part.safetensors"
    safetensors.torch.save_file(
        {n: t for n, t in tensors.items() if n.startswith(("features.0.", "features.2."))}, path
    )
    assert Descriptor(path, ["relu1_1", "relu1_2"])(pictures(1)).keys() == {"relu1_1", "relu1_2"}
    with pytest.raises(CheckpointError, match=r"part\.safetensors does not hold .* relu2_1.*5\.weight"):
        Descriptor(path, ["relu1_1", "relu2_1"])


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    shapes = {"features.0.weight": torch.zeros(32, 3, 3, 3), "features.0.bias": torch.zeros(32)}
    safetensors.torch.save_file(shapes, path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not hold"):
        Descriptor(path, ["relu1_1"])


@pytest.mark.parametrize("data", [None, b"", b"not safetensors at all"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "vgg.safetensors"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"vgg\.safetensors does not hold"):
        Descriptor(path, ["relu1_1"])


# --- The loss of a bank --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_style_picture_has_its_own_style_and_no_other(shallow_loss: PerceptualLoss) -> None:
    one, other = pictures(2, seed=6, size=40)
    stylized, rows = torch.stack([one, other, one, other]), torch.tensor([1, 2, 2, 1])
    losses = shallow_loss(stylized, stylized, rows)
    assert torch.allclose(losses.style[:2], torch.zeros(2), atol=1e-5)
    assert (losses.style[2:] > 0.001).all()


@torch.no_grad()
def test_the_total_is_the_weighted_sum_of_its_terms(shallow_loss: PerceptualLoss) -> None:
    config = replace(SHALLOW, content_weight=2.0, style_weight=3.0, total_variation_weight=5.0)
    stylized, content, rows = pictures(2, seed=1), pictures(2, seed=2), torch.tensor([1, 2])
    losses = replace(shallow_loss, config=config)(stylized, content, rows)
    expected = 2 * losses.content + 3 * losses.style + 5 * total_variation_loss(stylized)
    assert torch.allclose(losses.total, expected)
    assert (losses.content > 0).all()


@torch.no_grad()
def test_row_0_is_asked_for_the_pixels_of_the_content_and_nothing_else(shallow_loss: PerceptualLoss) -> None:
    content = pictures(2, seed=2) * 0.5
    stylized, rows = content + torch.tensor([0.0, 0.1])[:, None, None, None], torch.tensor([0, 0])
    weights = LossConfig(content_weight=1e3, style_weight=1e3, total_variation_weight=1e3, identity_weight=50)
    config = replace(weights, content_layer=SHALLOW.content_layer, style_layers=SHALLOW.style_layers)
    losses = replace(shallow_loss, config=config)(stylized, content, rows)
    assert torch.allclose(losses.total, torch.tensor([0.0, 50 * 0.1**2]), atol=1e-5)


@torch.no_grad()
def test_a_picture_in_a_mixed_batch_has_the_loss_that_it_has_alone(shallow_loss: PerceptualLoss) -> None:
    stylized, content, rows = pictures(3, seed=1), pictures(3, seed=2), torch.tensor([2, 0, 1])
    together = shallow_loss(stylized, content, rows).total
    alone = [shallow_loss(stylized[i : i + 1], content[i : i + 1], rows[i : i + 1]).total for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_every_row_pulls_at_the_stylized_picture(shallow_loss: PerceptualLoss, row: int) -> None:
    stylized = pictures(1, seed=1).requires_grad_()
    total = shallow_loss(stylized, pictures(1, seed=2), torch.tensor([row])).total
    (gradient,) = torch.autograd.grad(total.sum(), stylized)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_a_step_down_the_gradient_is_a_step_towards_the_style(shallow_loss: PerceptualLoss) -> None:
    stylized, content, row = pictures(1, seed=1), pictures(1, seed=2), torch.tensor([1])
    stylized.requires_grad_()
    before = shallow_loss(stylized, content, row).style
    (gradient,) = torch.autograd.grad(before.sum(), stylized)
    after = shallow_loss(stylized - 0.01 * gradient / gradient.abs().max(), content, row).style
    assert after < before


def test_every_layer_that_a_loss_needs_is_asked_for_once() -> None:
    assert CONFIG.layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    assert replace(CONFIG, content_layer="relu3_2").layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu3_2")
