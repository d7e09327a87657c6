"""How good styles are: their losses on held-out photographs, as ratios to optimised pictures (Gatys et al. 2016).

    python -m benchmarks.style_quality --photographs kodak/ --style painting.jpg [--style …] --vgg vgg19.safetensors \\
        --content photographs/ --results results.json [--optimised 6] [--checkpoints 50,100,500] \\
        bank:NAME=starry_night@1 quick:NAME=mine@1 …

Every argument names a way, a style picture (the stem of its file) and a style in the store (ATELIER_STORE). All
photographs are middle squares of 256 pixels. Optimised pictures are made for the first few photographs and kept in
``results.json``: the command can be stopped and goes on. A ratio compares means over the photographs that both have.
The file says what its losses are of, and is not gone on with when that is something else.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import Scores, StyleStore
from generator.checkpoint import Checkpoint, style_vector
from trainer.content import Photographs, load, middle_square
from trainer.evaluation import optimised, scores, stylized_with
from trainer.perceptual import LossConfig, PerceptualLoss
from trainer.rows import calibrated
from trainer.train import style_picture

SIZE = 256
STYLE_SIZE = 512
TERMS = ("content", "style", "total")
CPU = torch.device("cpu")


class Results:
    """Scores by painting, way and photograph, in a file that is written after each of them."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """``about`` is what else the scores depend on."""
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {"about": {}, "losses": {}}
        theirs: dict[str, Any] = known["about"]
        other = sorted(name for name in theirs.keys() & about.keys() if theirs[name] != about[name])
        if other:
            raise SystemExit(f"{path} holds losses of other files or options ({', '.join(other)}): name another file.")
        self.about = theirs | about  # it may have paintings that are not asked for now
        self.known: dict[str, dict[str, Any]] = known["losses"]

    def has(self, painting: str, way: str, photograph: str) -> bool:
        return photograph in self.known.get(painting, {}).get(way, {})

    def add(self, painting: str, way: str, photograph: str, found: Scores) -> None:
        self.known.setdefault(painting, {}).setdefault(way, {})[photograph] = found.model_dump()
        part = self.path.with_name(f"{self.path.name}.part")  # whoever is stopped while writing loses nothing
        part.write_text(json.dumps({"about": self.about, "losses": self.known}, indent=1, sort_keys=True))
        part.replace(self.path)


def about(arguments: argparse.Namespace, config: LossConfig, contents: dict[str, Tensor]) -> dict[str, Any]:
    """What all losses depend on, as far as files and options go."""
    files = {"descriptor": arguments.vgg, **{path.stem: path for path in arguments.style}}
    return {
        **{name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()},
        "photographs": hashlib.sha256(b"".join(one.numpy().tobytes() for one in contents.values())).hexdigest()[:16],
        "calibrated on": sum(1 for path in arguments.content.rglob("*") if path.is_file()),
        "style weight": config.style_weight,
    }


def optimise(
    results: Results, loss: PerceptualLoss, painting: str, name: str, content: Tensor, checkpoints: list[int]
) -> None:
    ways = {count: f"gatys {count}" for count in checkpoints}
    if all(results.has(painting, way, name) for way in ways.values()):
        return

    def look(iteration: int, picture: Tensor) -> bool:
        if iteration in ways:
            results.add(painting, ways[iteration], name, scores(loss, picture[None], content[None], 1))
            print(painting, name, ways[iteration], flush=True)
        return True

    optimised(loss, content, 1, max(checkpoints), look)


def feed_forward(
    results: Results, loss: PerceptualLoss, painting: str, way: str, style: str, contents: dict[str, Tensor]
) -> None:
    store = StyleStore(open_storage(ContractSettings().store_url))
    card = store.get(style)
    generator = Checkpoint.from_bytes(store.read_trunk(card.trunk)).generator()
    vector = style_vector(store.vector(card))
    for name, content in contents.items():
        stylized = stylized_with(generator, vector, content[None])
        results.add(painting, way, name, scores(loss, stylized, content[None], 1))


def mean(found: dict[str, dict[str, float]], names: set[str], term: str) -> float:
    return sum(found[name][term] for name in names) / len(names)


def table(results: Results) -> None:
    """Losses, and each as a ratio to the optimised one (content/style/total), over the photographs that both have."""
    for painting, ways in results.known.items():
        yardsticks = [way for way in ways if way.startswith("gatys")]
        print(f"\n{painting}\n{'':12}{'photos':>8}{'content':>10}{'style':>10}{'total':>10}", end="")
        print("".join(f"{'/ ' + way:>18}" for way in yardsticks))
        for way, found in ways.items():
            names = set(found)
            print(f"{way:12}{len(names):8}", end="")
            print("".join(f"{mean(found, names, term):10.3f}" for term in TERMS), end="")
            print("".join(f"{ratios(found, ways[yardstick]):>18}" for yardstick in yardsticks))


def ratios(found: dict[str, dict[str, float]], yardstick: dict[str, dict[str, float]]) -> str:
    both = found.keys() & yardstick.keys()
    return "/".join(f"{mean(found, both, term) / mean(yardstick, both, term):.2f}" for term in TERMS) if both else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--style", type=Path, action="append", required=True)
    parser.add_argument("--vgg", type=Path, required=True)
    parser.add_argument("--content", type=Path, required=True, help="for the calibration")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--optimised", type=int, default=6, help="how many photographs are optimised")
    parser.add_argument("--checkpoints", default="50,100,500")
    parser.add_argument("--style-weight", type=float, default=LossConfig.style_weight)
    parser.add_argument("ways", nargs="*", metavar="WAY:PAINTING=STYLE")
    arguments = parser.parse_args()

    config = LossConfig(style_weight=arguments.style_weight)
    descriptor = calibrated(arguments.vgg, config, Photographs(arguments.content, seed=0), CPU)
    paths = sorted(path for path in arguments.photographs.iterdir() if path.is_file())
    contents = {path.stem: middle_square(load(path), SIZE) for path in paths}
    results = Results(arguments.results, about(arguments, config, contents))
    for picture in arguments.style:
        loss = PerceptualLoss(descriptor, config).with_styles([[style_picture(picture, STYLE_SIZE)]])
        for name, content in contents.items():
            results.add(picture.stem, "untouched", name, scores(loss, content[None], content[None], 1))
        for asked in arguments.ways:
            way, _, rest = asked.partition(":")
            painting, _, style = rest.partition("=")
            if painting == picture.stem:
                feed_forward(results, loss, painting, way, style, contents)
        for name in list(contents)[: arguments.optimised]:
            counts = [int(count) for count in arguments.checkpoints.split(",") if count]
            if counts:
                optimise(results, loss, picture.stem, name, contents[name], counts)
    print(describe())
    table(results)


if __name__ == "__main__":
    main()
