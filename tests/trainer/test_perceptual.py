"""The perceptual loss: known values, and what must not change it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import SHALLOW, pictures
from trainer.descriptor import layer_positions
from trainer.perceptual import (
    PRESETS,
    GramNorm,
    LossConfig,
    PerceptualLoss,
    content_loss,
    gram_matrix,
    style_loss,
    total_variation_loss,
)

CONFIG = LossConfig()


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


def test_a_gram_matrix_is_computed_in_full_precision_where_all_else_is_not() -> None:
    features = (100 * torch.rand(1, 8, 16, 16)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        grams = gram_matrix(features)
    assert grams.dtype == torch.float32
    assert torch.equal(grams, gram_matrix(features.float()))


def test_the_gradient_of_a_gram_matrix_is_that_of_its_formula() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 3, dtype=torch.float64)  # not symmetric
    by_formula = torch.einsum("bchw,bdhw->bcd", features, features) / 20
    (wanted,) = torch.autograd.grad((by_formula * weights).sum(), features)
    (found,) = torch.autograd.grad((gram_matrix(features) * weights).sum(), features)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_content_loss_is_the_mean_squared_difference_of_each_picture() -> None:
    content = torch.randn(3, 2, 4, 5)
    stylized = content + torch.tensor([0.0, 2.0, -3.0])[:, None, None, None]
    assert torch.allclose(content_loss(stylized, content), torch.tensor([0.0, 4.0, 9.0]), atol=1e-5)


def test_style_loss_is_zero_for_the_style_and_one_for_a_picture_without_features() -> None:
    style = gram_matrix(torch.randn(1, 3, 4, 5)).expand(3, -1, -1)
    stylized = style * torch.tensor([1.0, 0.0, 3.0])[:, None, None]
    assert torch.allclose(style_loss(stylized, style), torch.tensor([0.0, 1.0, 4.0]))


@pytest.mark.parametrize(("norm", "divisor"), [("chw", 3 * 4 * 5), ("hw", 4 * 5)])
def test_the_style_losses_of_earlier_systems_are_mean_squares(norm: GramNorm, divisor: int) -> None:
    features = torch.randn(2, 3, 4, 5)
    one, other = (f.flatten(1) @ f.flatten(1).T / divisor for f in features)
    expected = sum(float((one[i, j] - other[i, j]) ** 2) for i in range(3) for j in range(3)) / 9
    stylized, style = (gram_matrix(f[None]) for f in features)
    assert style_loss(stylized, style, norm).tolist() == pytest.approx([expected], rel=1e-4)


def test_style_loss_does_not_depend_on_the_scale_of_the_features() -> None:
    stylized, style = gram_matrix(torch.randn(2, 3, 4, 5)), gram_matrix(torch.randn(2, 3, 4, 5))
    assert torch.allclose(style_loss(100 * stylized, 100 * style), style_loss(stylized, style))


def test_total_variation_is_zero_for_one_colour_and_counts_both_directions() -> None:
    flat = torch.full((3, 5, 5), 0.7)
    ramp = torch.linspace(0, 0.4, 5).expand(3, 5, 5)  # steps of 0.1
    both = torch.stack([flat, ramp, ramp.mT, ramp + 2 * ramp.mT])
    assert torch.allclose(total_variation_loss(both), torch.tensor([0.0, 0.01, 0.01, 0.05]), atol=1e-6)


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


@torch.no_grad()
def test_the_style_of_several_pictures_is_the_mean_of_their_gram_matrices(shallow_loss: PerceptualLoss) -> None:
    one, other = pictures(1, seed=7, size=24)[0], pictures(1, seed=8, size=40)[0]
    loss = shallow_loss.with_styles([[one, other], [other]])
    for layer in SHALLOW.style_layers:
        grams = [gram_matrix(shallow_loss.descriptor(picture[None])[layer])[0] for picture in (one, other)]
        assert torch.allclose(loss.grams[layer][1], (grams[0] + grams[1]) / 2, atol=1e-6)
        assert torch.allclose(loss.grams[layer][2], grams[1], atol=1e-6)


@torch.no_grad()
def test_a_content_target_that_is_known_gives_the_same_loss(shallow_loss: PerceptualLoss) -> None:
    stylized, content, rows = pictures(3, seed=1), pictures(3, seed=2), torch.tensor([1, 0, 2])
    without = shallow_loss(stylized, content, rows)
    given = shallow_loss(stylized, content, rows, shallow_loss.content_target(content))
    assert torch.equal(given.total, without.total)
    assert torch.equal(given.content, without.content)
    other = shallow_loss(stylized, content, rows, shallow_loss.content_target(content.flip(0)))
    assert not torch.allclose(other.content, without.content, rtol=0.01), "and it is the one that counts"


def test_every_layer_that_a_loss_needs_is_asked_for_once() -> None:
    assert CONFIG.layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    assert replace(CONFIG, content_layer="relu3_2").layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu3_2")


# --- The losses of others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_the_layers_of_a_preset_are_in_its_network(name: str) -> None:
    config = PRESETS[name]
    assert set(config.layers) <= layer_positions(config.network).keys()
    assert len(config.style_layers) == len(set(config.style_layers)) >= 4
    assert min(config.content_weight, config.style_weight, config.identity_weight) > 0


def test_a_run_has_the_first_preset_when_it_names_none() -> None:
    assert PRESETS["atelier"] == LossConfig()


@torch.no_grad()
@pytest.mark.parametrize("gram", ["relative", "chw", "hw"])
def test_a_loss_measures_styles_as_its_configuration_says(shallow_loss: PerceptualLoss, gram: GramNorm) -> None:
    stylized, rows = pictures(1, seed=1), torch.tensor([2])
    losses = replace(shallow_loss, config=replace(SHALLOW, gram=gram))(stylized, stylized, rows)
    seen = shallow_loss.descriptor(stylized)
    each: list[Tensor] = [
        style_loss(gram_matrix(seen[layer]), shallow_loss.grams[layer][2:], gram) for layer in SHALLOW.style_layers
    ]
    assert losses.style.tolist() == pytest.approx([float(sum(each)) / 2], rel=1e-4)
