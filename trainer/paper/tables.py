"""The tables of the document, from the results."""

from typing import Any

from trainer.paper.measures import STATES
from trainer.paper.pairs import mean
from trainer.paper.plan import ARCHITECTURES, NORMS
from trainer.paper.results import Results

READING_WORDS = {
    "running": "running averages",
    "batch": "statistics of the batch",
    "single": "one picture's own statistics",
    "instance": "its own, always",
}
SHOWN = (("batch", "running"), ("batch", "single"), ("instance", "instance"))
"""(norm, reading) of what is compared in charts and in most tables."""
EVERY = (("batch", "running"), ("batch", "batch"), ("batch", "single"), ("instance", "instance"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: list[float], form: str = ".3f") -> str:
    """The mean, and from where to where."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{mean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def norms_table(results: Results) -> str:
    about = {"experiment": "norms", "part": "losses", "iteration": results.settings["iterations"]}
    rows = []
    for style in results.settings["styles"]:
        untouched = results.select(experiment="norms", part="untouched", style=style)
        if untouched:
            rows.append([style, "untouched photograph", "", *(_figures_of(untouched[0].figures))])
        for architecture in ARCHITECTURES:
            for norm, reading in (
                ("batch", "running"),
                ("batch", "batch"),
                ("batch", "single"),
                ("instance", "instance"),
            ):
                run = {**about, "style": style, "architecture": architecture, "norm": norm, "reading": reading}
                figures = [spread(results.values(figure, **run)) for figure in ("total", "style", "content")]
                rows.append([style, f"{architecture}, {norm} norm", READING_WORDS[reading], *figures])
    return "At the end of training, mean over the seeds (lowest–highest):\n\n" + table(
        ["style", "generator", "statistics", "objective", "style loss", "content loss"], rows
    )


def _figures_of(figures: dict[str, float]) -> list[str]:
    return [f"{figures[name]:.3f}" for name in ("total", "style", "content")]


def test_time_table(results: Results) -> str:
    rows = []
    for style in results.settings["styles"]:
        for architecture in ARCHITECTURES:
            for state in STATES:
                about = {"experiment": "test_time", "style": style, "architecture": architecture, "state": state}
                rows += [[style, architecture, state, *_figures_of(row.figures)] for row in results.select(**about)]
    return table(["style", "generator", "instance norm", "objective", "style loss", "content loss"], rows)


def contrast_table(results: Results) -> str:
    names = list(dict.fromkeys(row.about["alteration"] for row in results.select(experiment="contrast", norm="batch")))
    rows = []
    for architecture in ARCHITECTURES:
        for norm, reading in SHOWN:
            run = {"experiment": "contrast", "architecture": architecture, "norm": norm, "reading": reading}
            shares = [
                f"{mean(results.values('relative', **run, alteration=name)):.0%} "
                f"({mean(results.values('distance', **run, alteration=name)):.1f})"
                for name in names
            ]
            rows.append([f"{architecture}, {norm} norm", READING_WORDS[reading], *shares])
    return (
        "How far the stylized picture is from that of the photograph as it is, as a share of how far those of two\n"
        "photographs are apart (and in levels of 255), mean over the styles:\n\n"
        + table(["generator", "statistics", *names], rows)
    )


def photographs_table(results: Results) -> str:
    about = {"experiment": "photographs", "part": "losses", "iteration": results.settings["iterations"]}
    rows = []
    for light in ("original", "equalised", "stylised"):
        for norm, reading in EVERY:
            run = {**about, "light": light, "norm": norm, "reading": reading}
            figures = [spread(results.values(figure, **run)) for figure in ("style", "content")]
            rows.append([light, f"{norm} norm", READING_WORDS[reading], *figures])
    return table(["photographs", "residual generator", "statistics", "style loss", "content loss"], rows)


def borders_table(results: Results) -> str:
    rows = []
    for padding in ("zeros", "continued"):
        for norm, reading in SHOWN:
            run = {"experiment": "borders", "padding": padding, "norm": norm, "reading": reading}
            figures = [spread(results.values(figure, **run), ".1f") for figure in ("band", "interior", "colour")]
            rows.append([padding, f"{norm} norm", READING_WORDS[reading], *figures])
    return table(
        ["padding", "pyramid", "statistics", "error at the border", "in the interior", "coloured error at the border"],
        rows,
    )


def resolution_table(results: Results) -> str:
    rows = []
    for size in results.settings["resolutions"]:
        for architecture in ("untouched", *ARCHITECTURES):
            for norm in NORMS if architecture != "untouched" else ("",):
                run: dict[str, Any] = {"experiment": "resolution", "size": size, "architecture": architecture}
                found = results.select(**run, **({"norm": norm} if norm else {}))
                style = spread([row.figures["style"] for row in found])
                seconds = spread([row.figures["seconds"] for row in found if "seconds" in row.figures], ".2f")
                rows.append([f"{size} px", f"{architecture}{norm and f', {norm} norm'}", style, seconds])
    return f"Mean over the styles (lowest–highest), on {results.settings['device']}:\n\n" + table(
        ["size", "generator", "style loss", "seconds"], rows
    )


def gatys_table(results: Results) -> str:
    rows = []
    for iteration in results.settings["yardstick_iterations"]:
        run = {"experiment": "gatys", "architecture": "optimised", "iteration": iteration}
        rows.append([f"optimised, {iteration} iterations", *_timed(results, run)])
    for architecture in ARCHITECTURES:
        for norm in NORMS:
            run = {"experiment": "gatys", "architecture": architecture, "norm": norm}
            rows.append([f"{architecture}, {norm} norm", *_timed(results, run)])
    return f"Pictures of {results.settings['size']} px, mean over styles and photographs (lowest–highest):\n\n" + table(
        ["picture made by", "objective", "style loss", "content loss", "seconds"], rows
    )


def _timed(results: Results, run: dict[str, Any]) -> list[str]:
    losses = [spread(results.values(figure, **run)) for figure in ("total", "style", "content")]
    return [*losses, spread(results.values("seconds", **run), ".3g")]


def texture_table(results: Results) -> str:
    rows = [
        [
            row.about["style"],
            f"{row.about['norm']} norm",
            f"{row.figures['style']:.3f}",
            f"{row.figures['noise_style']:.3f}",
            f"{row.figures['difference']:.1f}",
            f"{row.figures['contrast']:.1f}",
        ]
        for row in results.select(experiment="texture")
    ]
    head = ["style", "pyramid", "style loss of samples", "of noise", "difference of samples", "their contrast"]
    return "Differences and contrast in levels of 255:\n\n" + table(head, rows)
