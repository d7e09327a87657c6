"""What an iteration of training costs, beside a plain loop as pytorch/examples has it, on the same batch.

    python -m benchmarks.training_speed --vgg vgg19.safetensors [--size 256] [--batch 4] [--width 32] [--rounds 5]

The plain loop runs the same network and the same descriptor layers in float32 and PyTorch's default memory layout, sees
the content through all of the descriptor, and has no style rows to mind. The ways take turns, so that a busy machine is
unkind to all of them alike. Peak memory is that of a process of its own for each way.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from benchmarks.machine import describe
from generator.checkpoint import CONTENT_ROW, of_generator
from generator.devices import choose_device
from generator.network import Generator, GeneratorConfig
from trainer.descriptor import Descriptor
from trainer.perceptual import LossConfig, PerceptualLoss
from trainer.precision import choose_precision
from trainer.training import TrainConfig, Training

WAYS = ("plain", "bank", "quick")
Step = Callable[[], None]


def plain(arguments: argparse.Namespace, content: Tensor, style: Tensor) -> Step:
    """The training loop of pytorch/examples/fast_neural_style, with our generator and VGG-19's layers."""
    device, config = content.device, LossConfig()
    generator = Generator(GeneratorConfig(width=arguments.width)).to(device)
    row = generator.neutral_style().to(device).repeat(len(content), 1).requires_grad_()
    descriptor = Descriptor(arguments.vgg, config.layers).to(device)
    optimizer = torch.optim.Adam([*generator.parameters(), row], 1e-3)
    wanted = {name: gram(features) for name, features in descriptor(style[None]).items()}

    def step() -> None:
        optimizer.zero_grad()
        stylized = generator(content, row)
        seen, target = descriptor(stylized), descriptor(content)
        loss = 1e5 * F.mse_loss(seen[config.content_layer], target[config.content_layer])
        for name, goal in wanted.items():
            found = gram(seen[name])
            loss = loss + 1e10 * F.mse_loss(found, goal.expand_as(found))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def gram(features: Tensor) -> Tensor:
    batch, channels, height, width = features.shape
    flat = features.view(batch, channels, height * width)
    return flat.bmm(flat.transpose(1, 2)) / (channels * height * width)


def ours(arguments: argparse.Namespace, content: Tensor, style: Tensor, *, quick: bool) -> Step:
    """One style on our loop; ``quick`` knows the targets of its photographs already, as it does after the first few."""
    device, config = content.device, LossConfig()
    descriptor = Descriptor(arguments.vgg, config.layers).to(device).to(memory_format=torch.channels_last)
    loss = PerceptualLoss(descriptor, config).with_styles([[style]])
    train = TrainConfig(
        GeneratorConfig(width=arguments.width),
        config,
        iterations=10**6,
        batch=len(content),
        optimizer="adam" if quick else "muon",  # as a bank has it
        frozen_trunk=quick,
    )
    generator = Generator(train.generator)
    names = (CONTENT_ROW, "style")
    start = of_generator(generator, names, generator.neutral_style().repeat(2, 1))
    training = Training(train, names, device, start, choose_precision(device))
    target = loss.content_target(content) if quick else None

    def step() -> None:
        training.step(content, loss, target)

    return step


def step_of(way: str, arguments: argparse.Namespace) -> Step:
    device = choose_device(arguments.device)
    torch.manual_seed(0)
    content = torch.rand(arguments.batch, 3, arguments.size, arguments.size).to(device)
    style = torch.rand(3, arguments.size, arguments.size).to(device)
    if way == "plain":
        return plain(arguments, content, style)
    return ours(arguments, content, style, quick=way == "quick")


def seconds_of(step: Step) -> float:
    began = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_megabytes(way: str) -> float:
    """Of a process that does three iterations of this one way."""
    command = [sys.executable, "-m", "benchmarks.training_speed", *sys.argv[1:], "--alone", way]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def alone(arguments: argparse.Namespace) -> None:
    step = step_of(arguments.alone, arguments)
    for _ in range(3):
        step()
    if torch.cuda.is_available():
        print(json.dumps(torch.cuda.max_memory_allocated() / 2**20))
    else:
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vgg", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="")
    parser.add_argument("--alone", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments)
        return
    # First, while this process is small: Linux counts the memory of whoever starts a process as that process's peak.
    peaks = {way: peak_megabytes(way) for way in WAYS}
    steps = {way: step_of(way, arguments) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        seconds_of(steps[way])
    for _ in range(arguments.rounds):
        for way in WAYS:
            seconds[way].append(seconds_of(steps[way]))
    print(describe())
    print(f"width {arguments.width}, {arguments.batch}×{arguments.size}², medians of {arguments.rounds} turns")
    print(f"{'':8}{'s/iteration':>13}{'times plain':>13}{'s/1,000':>10}{'peak MB':>10}")
    baseline = statistics.median(seconds["plain"])
    for way in WAYS:
        median = statistics.median(seconds[way])
        ratio = baseline / median
        print(f"{way:8}{median:13.3f}{ratio:13.2f}{1000 * median:10.0f}{peaks[way]:10.0f}")


if __name__ == "__main__":
    main()
