"""The document of the comparison, from the results alone: each claim, its evidence, its figures and what came out."""

import shutil
from pathlib import Path
from typing import Any

from trainer.drawings import DRAWINGS
from trainer.paper.pairs import AS_CLAIMED, Claim
from trainer.paper.plan import EXPERIMENTS
from trainer.paper.results import Results
from trainer.paper.tables import table
from trainer.paper.verdicts import claims
from trainer.paper.words import SECTIONS, Section

RESULTS = "results.json"
DOCUMENT = "paper.md"
FIGURES = "paper"
"""The folder of the figures, beside the document."""
PROGRAM = "python -m trainer.compare"


def write(results: Results, pictures: Path, docs: Path) -> Path:
    """Writes ``paper.md``, and its figures and numbers into a folder beside it."""
    figures = docs / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    found = claims(results)
    parts = [_introduction(), _outcome(found), _method(results), _commands(results)]
    for name in EXPERIMENTS:
        if results.select(experiment=name):
            shown = _figures(name, results, pictures, figures)
            parts.append(_section(name, results, shown, [claim for claim in found if claim.experiment == name]))
    if results.path.resolve() != (figures / RESULTS).resolve():
        shutil.copyfile(results.path, figures / RESULTS)
    document = docs / DOCUMENT
    document.write_text("\n\n".join(parts) + "\n")
    return document


def _figures(name: str, results: Results, pictures: Path, folder: Path) -> list[str]:
    """Puts the chart and the grid of an experiment into the folder; what shows them."""
    section = SECTIONS[name]
    shown = []
    if section.charts:
        (folder / f"{name}.svg").write_text(section.charts(results))
        shown.append(_figure(f"{name}.svg", section.chart_words))
    grid = pictures / f"{name}.jpg"
    if grid.is_file():
        if grid.resolve() != (folder / grid.name).resolve():
            shutil.copyfile(grid, folder / grid.name)
        shown.append(_figure(grid.name, section.picture_words))
    return shown


def _figure(file: str, words: str) -> str:
    return f"![{words}]({FIGURES}/{file})\n\n*{words}*"


# --- The parts of the document -------------------------------------------------------------------------------------


def _introduction() -> str:
    return f"""# The paper's claims, measured

In 2016 Ulyanov, Vedaldi and Lempitsky changed one layer of the networks that put photographs into the style of a
painting ([arXiv 1607.08022](https://arxiv.org/abs/1607.08022)). *Batch norm* brings each channel of a network to mean 0
and deviation 1 over all pictures of a batch; in use, averages remembered from training take the place of the batch.
*Instance norm* does it for every picture by itself, in training and in use. The paper shows in pictures that this makes
stylized photographs much better; it has no numbers. Here are numbers, for its claims and for those of two papers that
came after: [1703.06868](https://arxiv.org/abs/1703.06868), which measured the same networks, and
[1701.02096](https://arxiv.org/abs/1701.02096).

A program writes this page from [its results]({FIGURES}/{RESULTS}), verdicts included. They hold for the budget below,
which is far smaller than that of any paper."""


def _outcome(found: list[Claim]) -> str:
    rows = [[f"[{claim.text}](#{SECTIONS[claim.experiment].anchor})", claim.verdict] for claim in found]
    otherwise = [claim for claim in found if claim.verdict != AS_CLAIMED]
    return f"""## What came out

{table(["claim", "verdict"], rows)}

*As claimed* is in all cases (*but hardly*: by less than 5 % on average), *mostly* in three quarters of them or more,
*not as claimed* in a quarter or less, and *undecided* in between.

### What did not come out as claimed

{len(otherwise)} of {len(found)} claims, with what was measured:

{_bullets(otherwise) if otherwise else "- none."}"""


def _bullets(found: list[Claim]) -> str:
    return "\n".join(f"- {claim.text} **{claim.verdict.capitalize()}.** {claim.evidence}" for claim in found)


def _method(results: Results) -> str:
    settings = results.settings
    photographs = settings["photographs"]
    return f"""## How it was measured

- **Styles**: {", ".join(settings["styles"])}.
- **Generators**: the *pyramid* of Ulyanov et al. 2016 ({settings["pyramid_width"]} channels a scale) and the *residual*
  network of Johnson et al. 2016 ({settings["residual_width"]} channels in the first layer), one for each style, trained
  from nothing for {settings["iterations"]} iterations of {settings["batch"]} crops of {settings["size"]} px, with a
  learning rate of {settings["learning_rate"]:g} that falls along half a cosine. All
  hyperparameters are the same for all of them: those of [our own trainings](training.md), but
  for the learning rate; they were chosen with instance norm.
- **Loss**: content at relu3_1, Gram matrices at relu1_1 to relu4_1 of VGG-19, relative to those of the style; the
  *objective* is content loss + 60 × style loss. It is measured on {photographs} photographs that no training saw, on
  pictures that are clamped to what can be shown.
- **Seeds**: {_seeds(settings)}
- **Batch norm has three readings at test time.** With *running averages* is how everybody uses it. With *statistics of
  the batch* the network is as it is in training, and all {photographs} photographs are one batch. With *one picture's
  own statistics* the batch is of one, which is what instance norm does, in a network that was trained with batches; the
  code of 2016 was used like this. Tables and charts say which one is meant.
- {_back_offs(results)}"""


def _seeds(settings: dict[str, Any]) -> str:
    return (
        f"{_count(settings['seeds'])} in the main experiment, {_count(settings['side_seeds'])} in\n"
        "  those about training photographs and borders. All others look at the generators of seed 0. Bands in charts\n"
        "  reach from the lowest to the highest seed."
    )


def _count(seeds: int) -> str:
    return (
        "seed 0 alone (n = 1, so nothing is known of the spread)" if seeds == 1 else f"0 to {seeds - 1} (n = {seeds})"
    )


def _back_offs(results: Results) -> str:
    courses = results.select(experiment="norms", part="course")
    gone_back = [row.about["norm"] for row in courses if row.figures["back_offs"]]
    if not gone_back:
        return f"**Divergence**: none of the {len(courses)} runs of the main experiment had to lower its learning rate."
    return (
        f"**Divergence**: {len(gone_back)} of the {len(courses)} runs of the main experiment went back and on with\n"
        f"  half the learning rate, {gone_back.count('batch')} of them with batch norm."
    )


def _commands(results: Results) -> str:
    return f"""## How to make it again

```sh
BUDGET="{budget_options(results.settings)}"
{PROGRAM} $BUDGET    # or: make paper ARGS="$BUDGET"
```

does everything: it trains what is not trained yet, measures what is not measured yet, and writes this page. It can be
stopped at any time and goes on. `--content`, `--held-out` and `--vgg` name the photographs to train on, those to
measure on, and the descriptor's weights; a style is a picture, or one of those that `trainer/drawings` draws.
`--step write` only writes, `--experiment` does one experiment: below, beside the figures that it makes. Seconds are
those of {results.settings["device"]}."""


def budget_options(settings: dict[str, Any]) -> str:
    """What the command was told."""
    options = [("style", style if style in DRAWINGS else f"{style}.jpg") for style in settings["styles"]]
    for name, value in settings.items():
        if isinstance(value, int | float):
            options.append((name.replace("_", "-"), str(value)))
    options += [("yardstick-iterations", str(value)) for value in settings["yardstick_iterations"]]
    options += [("resolution", str(value)) for value in settings["resolutions"]]
    return " \\\n    ".join(
        " ".join(f"--{name} {value}" for name, value in options[start : start + 5])
        for start in range(0, len(options), 5)
    )


def _section(name: str, results: Results, shown: list[str], found: list[Claim]) -> str:
    section: Section = SECTIONS[name]
    figures = "\n\n".join(shown)
    return f"""## {section.title}

{section.words}

{figures}

```sh
{PROGRAM} --experiment {name} $BUDGET
```

{section.table(results)}

{_bullets(found)}"""
