"""How weights move with Muon."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from generator.network import Architecture, GeneratorConfig
from tests.trainer.conftest import SHALLOW, pictures
from trainer.optimizers import Group, Muon
from trainer.perceptual import PerceptualLoss
from trainer.training import TrainConfig, Training

CPU = torch.device("cpu")
RATE = 1e-2
ADAM_SHARE = 0.2
"""The root mean square of Adam's steps, as a share of the learning rate (Liu et al. 2025)."""
NAMES = ("a", "b")
CONFIG = TrainConfig(
    GeneratorConfig(width=4), SHALLOW, iterations=100, batch=2, size=16, optimizer="muon", content_row=False
)


def weight(channels_out: int = 24, channels_in: int = 16, seed: int = 0) -> nn.Parameter:
    """That of a convolution, as trunks have them, whose gradient is longer in some directions than in others."""
    draw = torch.Generator().manual_seed(seed)
    made = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3, generator=draw))
    made.data = made.data.to(memory_format=torch.channels_last)
    strengths = torch.logspace(0, -1.5, channels_out)
    made.grad = (strengths[:, None] * torch.randn(channels_out, channels_in * 9, generator=draw)).view_as(made)
    return made


def muon(*convolutions: nn.Parameter, others: list[nn.Parameter] | None = None) -> Muon:
    bias = nn.Parameter(torch.zeros(3))
    rest: Group = {"params": others or [bias], "lr": RATE}
    return Muon({"params": list(convolutions), "lr": RATE}, [rest])


@pytest.mark.parametrize("channels", [(24, 16), (8, 3), (64, 1)])
def test_a_step_goes_equally_far_in_all_directions_and_as_far_as_adam(channels: tuple[int, int]) -> None:
    convolution = weight(*channels)
    before = convolution.detach().clone()
    muon(convolution).step()
    step = (convolution.detach() - before).flatten(1)
    assert step.square().mean().sqrt().item() == pytest.approx(ADAM_SHARE * RATE, rel=0.25)
    lengths = torch.linalg.svdvals(step)
    assert lengths.max() < 2.5 * lengths.min(), "five rounds of Newton-Schulz come that near"
    assert convolution.grad is not None
    gradients = torch.linalg.svdvals(convolution.grad.flatten(1))
    assert gradients.max() > 2.5 * gradients.min(), "where gradients were not equally long"
    assert (step * convolution.grad.flatten(1)).sum() < 0, "and down"


def test_what_is_no_convolution_moves_as_with_adam() -> None:
    others = [nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(2, 7))]
    alone = [nn.Parameter(one.detach().clone()) for one in others]
    for one in (*others, *alone):
        one.grad = torch.linspace(-1, 2, one.numel()).view_as(one)
    muon(weight(), others=others).step()
    torch.optim.Adam(alone, lr=RATE).step()
    assert all(torch.equal(one, other) for one, other in zip(others, alone, strict=True))


def test_a_convolution_without_a_gradient_stays() -> None:
    moved, still = weight(seed=1), weight(seed=2)
    still.grad = None
    before = still.detach().clone()
    optimizer = muon(moved, still)
    for _ in range(2):
        optimizer.step()
    assert torch.equal(still, before)


def test_weights_that_were_put_there_meanwhile_are_moved_from_there() -> None:
    convolution = weight()
    optimizer = muon(convolution)
    optimizer.step()
    with torch.no_grad():
        convolution.fill_(7.0)
    optimizer.step()
    assert (convolution - 7).abs().max() < 10 * RATE
    assert convolution.is_contiguous(memory_format=torch.channels_last), "the layout that trunks have"


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
def test_every_convolution_but_the_last_has_muon(architecture: Architecture) -> None:
    training = Training(replace(CONFIG, generator=GeneratorConfig(architecture, width=4)), NAMES, CPU)
    assert isinstance(training.optimizer, Muon)
    matrices, *others = training.optimizer.param_groups
    trunk = training.generator.trunk
    wanted = [p for p in trunk.parameters() if p.ndim == 4 and p is not trunk.output.weight]
    assert [one.shape for one in matrices["params"]] == [one.flatten(1).shape for one in wanted]
    rest = {id(one) for group in others for one in group["params"]}
    assert rest == {id(one) for one in (*training.generator.parameters(), *training.rows)} - {id(one) for one in wanted}


def test_a_run_with_muon_goes_on_as_if_it_had_never_stopped(shallow_loss: PerceptualLoss) -> None:
    def steps(training: Training, numbers: range) -> list[dict[str, float]]:
        return [training.step(pictures(2, seed=number, size=16), shallow_loss) for number in numbers]

    whole = Training(CONFIG, NAMES, CPU)
    steps(whole, range(3))
    resumed = Training(CONFIG, NAMES, CPU)
    resumed.restore(whole.state())
    assert steps(whole, range(3, 7)) == steps(resumed, range(3, 7))
    theirs = resumed.checkpoint().trunk
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in whole.checkpoint().trunk.items())
