"""What the networks promise, whatever their weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from generator.network import Architecture, Generator, GeneratorConfig, Norm, StyledNorm

ARCHITECTURES: list[Architecture] = ["residual", "pyramid"]
NORMS: list[Norm] = ["instance", "batch"]
SIZES = [(16, 16), (16, 23), (17, 16), (31, 33), (40, 64), (65, 18), (16, 101)]


def random_generator(architecture: Architecture = "residual", norm: Norm = "instance") -> Generator:
    torch.manual_seed(0)
    return Generator(GeneratorConfig(architecture, norm, width=4)).eval()


def random_styles(generator: Generator, count: int) -> Tensor:
    """[count,S], around the neutral style."""
    neutral = generator.neutral_style().repeat(count, 1)
    return neutral + 0.3 * torch.randn(neutral.shape, generator=torch.Generator().manual_seed(1))


def pictures(count: int, height: int = 64, width: int = 64) -> Tensor:
    """Large patches of colour under fine noise: like photographs, they have contrast at every scale."""
    draw = torch.Generator().manual_seed(2)
    patches = F.interpolate(torch.rand(count, 3, 3, 3, generator=draw), size=(height, width), mode="bilinear")
    return 0.8 * patches + 0.2 * torch.rand(count, 3, height, width, generator=draw)


@torch.no_grad()
def train_averages(generator: Generator, styles: Tensor) -> None:
    """Lets a batch norm see a batch of paler pictures, from which its running averages are then wholly made."""
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    generator.train()
    generator(0.5 * pictures(len(styles)) + 0.2, styles)
    generator.eval()


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, relative to the range of values."""
    return float((one - other).abs().max() / (other.max() - other.min()))


# --- Sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_stylized_picture_has_the_size_of_its_content(
    architecture: Architecture, norm: Norm, size: tuple[int, int]
) -> None:
    generator = random_generator(architecture, norm)
    stylized = generator(pictures(2, *size), random_styles(generator, 2))
    assert stylized.shape == (2, 3, *size)
    assert stylized.isfinite().all()


@torch.no_grad()
def test_rows_and_columns_that_pad_a_picture_do_not_show() -> None:
    """A picture of one colour stays one: an edge would tell where the padding was."""
    generator = random_generator()
    stylized = generator(torch.full((1, 3, 33, 47), 0.3), random_styles(generator, 1))
    assert torch.allclose(stylized, stylized[:, :, :1, :1].expand_as(stylized), atol=1e-5)


def test_the_full_width_residual_network_has_the_size_that_the_literature_counts() -> None:
    generator = Generator(GeneratorConfig("residual", width=32))
    assert generator.style_size == 3206
    assert sum(weight.numel() for weight in generator.parameters()) == 1_676_035


def test_the_pyramid_has_the_size_of_the_published_one() -> None:
    generator = Generator(GeneratorConfig("pyramid", width=8))
    output_scale_and_shift = 6
    weights = sum(weight.numel() for weight in generator.trunk.parameters())
    assert weights + generator.style_size - output_scale_and_shift == 116_915


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "transformer"},
        {"norm": "layer"},
        {"width": 0},
        {"width": 257},
        {"width": 4.0},
        {"width": True},
        {"width": "4"},
        {"padding": "reflect"},
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GeneratorConfig(**wrong)


# --- The padding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_picture_is_continued_at_its_borders_unless_another_padding_is_asked_for(architecture: Architecture) -> None:
    continued = {"residual": "reflect", "pyramid": "replicate"}[architecture]
    for config, mode in (
        (GeneratorConfig(architecture, width=2), continued),
        (GeneratorConfig(architecture, width=2, padding="zeros"), "zeros"),
        (GeneratorConfig(architecture, width=2, padding="circular"), "circular"),
    ):
        padded = [
            one for one in Generator(config).modules() if isinstance(one, nn.Conv2d) and one.kernel_size != (1, 1)
        ]
        assert {one.padding_mode for one in padded} == {mode}


@torch.no_grad()
def test_with_circular_padding_a_pyramid_makes_of_a_shifted_picture_the_same_shifted() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig("pyramid", width=3, padding="circular")).eval()
    styles, content = random_styles(generator, 1), pictures(1)
    shifted = generator(content.roll((32, 32), dims=(2, 3)), styles)  # by a cell of the coarsest scale
    assert difference(shifted, generator(content, styles).roll((32, 32), dims=(2, 3))) < 1e-4


def test_a_configuration_describes_its_padding_only_where_it_is_not_what_it_always_was() -> None:
    assert GeneratorConfig().described() == {"architecture": "residual", "norm": "instance", "width": 32}
    described = GeneratorConfig("pyramid", "batch", 8, "zeros").described()
    assert described == {"architecture": "pyramid", "norm": "batch", "width": 8, "padding": "zeros"}
    assert GeneratorConfig(**described) == GeneratorConfig("pyramid", "batch", 8, "zeros")


# --- The normalisation ---------------------------------------------------------------------------------------------


def test_a_styled_norm_is_the_equation_of_the_paper() -> None:
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]])[None, None]
    gamma, beta = 2.0, -1.0
    mean, biased_variance = 4.0, 5.0
    expected = gamma * (x - mean) / (biased_variance + 1e-5) ** 0.5 + beta
    assert torch.allclose(StyledNorm(1, "instance")(x, iter([torch.tensor([[gamma, beta]])])), expected)


def test_every_picture_and_channel_is_normalised_by_its_own_statistics() -> None:
    x = torch.randn(3, 4, 5, 6) * torch.rand(3, 4, 1, 1) + torch.randn(3, 4, 1, 1)
    gamma, beta = torch.randn(3, 4), torch.randn(3, 4)
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    expected = gamma[:, :, None, None] * (x - mean) / (variance + 1e-5).sqrt() + beta[:, :, None, None]
    normalised = StyledNorm(4, "instance")(x, iter([torch.cat([gamma, beta], dim=1)]))
    assert torch.allclose(normalised, expected, atol=1e-5)


def test_a_small_variance_is_not_blown_up() -> None:
    """ε is 1e-5: at a variance of 1e-5 it halves the square, and a larger or smaller one would show."""
    x = torch.tensor([-1.0, 1.0]).mul(1e-5**0.5)[None, None, None]
    normalised = StyledNorm(1, "instance")(x, iter([torch.tensor([[1.0, 0.0]])]))
    assert torch.allclose(normalised, torch.tensor([-1.0, 1.0]) / 2**0.5, atol=1e-4)


def test_a_map_of_one_pixel_becomes_the_shift() -> None:
    x = torch.full((1, 1, 1, 1), 5.0)
    assert StyledNorm(1, "instance")(x, iter([torch.tensor([[3.0, 0.25]])])).item() == 0.25


def test_batch_norm_uses_the_batch_in_training_and_running_averages_in_use() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).reshape(4, 1, 1, 1)
    style = torch.tensor([[2.0, -1.0]])
    norm = StyledNorm(1, "batch").train()
    assert torch.allclose(norm(x, iter([style])), 2 * (x - 4) / (5 + 1e-5) ** 0.5 - 1)
    # One step of momentum 0.1 from mean 0 and variance 1; PyTorch averages the unbiased variance, here 20 / 3.
    mean, variance = 0.1 * 4, 0.9 + 0.1 * 20 / 3
    assert torch.allclose(norm.eval()(x, iter([style])), 2 * (x - mean) / (variance + 1e-5) ** 0.5 - 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_with_instance_norm_training_and_use_are_the_same_network(architecture: Architecture) -> None:
    generator = random_generator(architecture)
    content, styles = pictures(2), random_styles(generator, 2)
    train_averages(generator, styles)
    in_use = generator(content, styles)
    assert torch.equal(generator.train()(content, styles), in_use)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_with_batch_norm_training_and_use_differ(architecture: Architecture) -> None:
    generator = random_generator(architecture, "batch")
    content, styles = pictures(2), random_styles(generator, 2)
    train_averages(generator, styles)
    in_use = generator(content, styles)
    assert (generator.train()(content, styles) - in_use).abs().max() > 0.05


@pytest.mark.parametrize(("gain", "offset"), [(0.4, 0.0), (1.0, 0.3), (0.5, 0.4)])
@torch.no_grad()
def test_with_instance_norm_contrast_and_brightness_of_the_content_do_not_matter(gain: float, offset: float) -> None:
    generator = random_generator()
    content, styles = pictures(1), random_styles(generator, 1)
    assert difference(generator(gain * content + offset, styles), generator(content, styles)) < 0.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_epsilon_is_all_that_is_left_of_the_contrast(architecture: Architecture) -> None:
    """It vanishes beside the variance of values that are large: then nothing is left."""
    generator = random_generator(architecture)
    content, styles = 1000 * pictures(1), random_styles(generator, 1)
    assert difference(generator(0.3 * content + 500, styles), generator(content, styles)) < 0.002


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_with_batch_norm_contrast_and_brightness_of_the_content_show(architecture: Architecture) -> None:
    generator = random_generator(architecture, "batch")
    content, styles = pictures(2), random_styles(generator, 2)
    train_averages(generator, styles)
    assert difference(generator(0.5 * content + 0.4, styles), generator(content, styles)) > 0.1


# --- Styles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_batch_of_mixed_styles_gives_what_its_pictures_give_alone(architecture: Architecture) -> None:
    """In double precision: how a convolution rounds may depend on the size of the batch."""
    generator = random_generator(architecture).double()
    content, styles = pictures(4).double(), random_styles(generator, 4).double()
    together = generator(content, styles)
    alone = torch.cat([generator(content[i : i + 1], styles[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-9)


@torch.no_grad()
def test_every_style_of_a_batch_shows_on_the_same_content() -> None:
    generator = random_generator()
    stylized = generator(pictures(1).expand(3, -1, -1, -1), random_styles(generator, 3))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (stylized[one] - stylized[other]).abs().max() > 0.05


@torch.no_grad()
def test_a_blend_with_all_its_weight_on_one_row_is_that_row() -> None:
    generator = random_generator()
    content, styles = pictures(1), random_styles(generator, 3)
    for row, weights in enumerate(torch.eye(3)):
        assert torch.equal(generator(content, (weights @ styles)[None]), generator(content, styles[row : row + 1]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_blend_lies_between_its_styles_and_is_neither(architecture: Architecture) -> None:
    generator = random_generator(architecture)
    content, styles = pictures(1), random_styles(generator, 2)
    first, second, halfway = (generator(content, style[None]) for style in (styles[0], styles[1], styles.mean(dim=0)))
    apart = (first - second).norm()
    for end in (first, second):
        assert 0.1 * apart < (halfway - end).norm() < apart


@torch.no_grad()
def test_the_last_numbers_of_a_style_scale_and_shift_the_output_channels() -> None:
    generator = random_generator()
    content, style = pictures(1), random_styles(generator, 1)
    style[:, -6:] = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    plain = generator(content, style)
    style[:, -6:] = torch.tensor([2.0, 0.0, 1.0, 0.25, 0.5, 0.75])
    red, green, blue = generator(content, style)[0]
    assert torch.allclose(red, 2 * plain[0, 0] + 0.25, atol=1e-5)
    assert torch.equal(green, torch.full_like(green, 0.5))
    assert torch.allclose(blue, plain[0, 2] + 0.75, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_scale_of_every_layer_can_be_learned(architecture: Architecture) -> None:
    generator = random_generator(architecture)
    style = random_styles(generator, 1).requires_grad_()
    generator(pictures(1), style).square().mean().backward()
    assert style.grad is not None
    assert style.grad.isfinite().all()
    for layer in torch.split(style.grad[0], generator.style_sizes):
        scale, _ = layer.chunk(2)  # the shift of a layer without activation is undone by the norm after it
        assert scale.abs().max() > 1e-4


@torch.no_grad()
def test_the_neutral_style_changes_nothing_after_normalisation() -> None:
    norm, x = StyledNorm(4, "instance"), torch.randn(1, 4, 8, 8)
    neutral = random_generator().neutral_style()[None, :8]  # of the first layer, which has 4 channels
    assert torch.allclose(norm(x, iter([neutral])), F.instance_norm(x), atol=1e-6)


def test_a_style_vector_of_another_network_is_refused() -> None:
    generator = random_generator()
    with pytest.raises(RuntimeError, match="split"):
        generator(pictures(1), torch.zeros(1, generator.style_size - 2))
