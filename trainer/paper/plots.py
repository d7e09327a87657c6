"""The charts of the document, from the results."""

from typing import Any

from trainer.paper.charts import Panel, Series, chart, over
from trainer.paper.pairs import mean
from trainer.paper.plan import ARCHITECTURES, NORMS
from trainer.paper.results import Results
from trainer.paper.tables import READING_WORDS, SHOWN

COLOURS = {
    ("pyramid", "batch"): "#d9822b",
    ("pyramid", "instance"): "#2b7bba",
    ("residual", "batch"): "#b3261e",
    ("residual", "instance"): "#1a3f7a",
}
OPTIMISED_COLOUR = "#555555"
DASHES = {"running": "", "instance": "", "batch": "6 3", "single": "2 3"}


def _line(results: Results, figure: str, **about: Any) -> tuple[list[tuple[float, float]], list[float], list[float]]:
    """The milestones of all seeds: mean, lowest, highest."""
    runs: dict[int, list[tuple[float, float]]] = {}
    for row in results.select(**about):
        runs.setdefault(row.about["seed"], []).append((row.about["iteration"], row.figures[figure]))
    return over([sorted(run) for run in runs.values()], mean)


def _series(results: Results, figure: str, architecture: str, norm: str, reading: str, **about: Any) -> Series:
    line, low, high = _line(results, figure, architecture=architecture, norm=norm, reading=reading, **about)
    words = "instance norm" if norm == "instance" else f"batch norm, {READING_WORDS[reading]}"
    return Series(f"{architecture}, {words}", COLOURS[architecture, norm], line, DASHES[reading], low, high)


def norms_chart(results: Results) -> str:
    panels = []
    for style in results.settings["styles"]:
        panels.append(Panel(f"{style}: training objective", "iteration", _courses(results, style), log_y=True))
        for figure, words in (("total", "objective"), ("style", "style loss"), ("content", "content loss")):
            series = [
                _series(results, figure, architecture, norm, reading, experiment="norms", part="losses", style=style)
                for architecture in ARCHITECTURES
                for norm, reading in SHOWN
            ]
            panels.append(Panel(f"{style}: held-out {words}", "iteration", series, log_x=True, log_y=True))
    return chart(panels, 2)


def _courses(results: Results, style: str) -> list[Series]:
    """Training losses, mean over the seeds; in training there is but one reading."""
    series = []
    for architecture in ARCHITECTURES:
        for norm in NORMS:
            rows = results.select(experiment="norms", part="course", style=style, architecture=architecture, norm=norm)
            runs = [course_points(row.figures) for row in rows]
            line, low, high = over(runs, mean)
            label = "instance norm" if norm == "instance" else f"batch norm, {READING_WORDS['running']}"
            series.append(Series(f"{architecture}, {label}", COLOURS[architecture, norm], line, "", low, high))
    return series


def course_points(figures: dict[str, float], prefix: str = "loss@") -> list[tuple[float, float]]:
    """(place, value) of the figures that are called ``loss@PLACE``."""
    return sorted(
        (float(name.removeprefix(prefix)), value) for name, value in figures.items() if name.startswith(prefix)
    )


def photographs_chart(results: Results) -> str:
    panels = [
        Panel(
            f"{light} photographs: style loss",
            "iteration",
            [
                _series(
                    results, "style", "residual", norm, reading, experiment="photographs", part="losses", light=light
                )
                for norm, reading in (("batch", "running"), ("batch", "batch"), ("instance", "instance"))
            ],
            log_x=True,
            log_y=True,
        )
        for light in ("original", "equalised", "stylised")
    ]
    return chart(panels, 3)


def borders_chart(results: Results) -> str:
    panels = []
    shown = [
        (padding, words, prefix, what)
        for padding, words in (("zeros", "zero padding"), ("continued", "continued"))
        for prefix, what in (("error@", "error"), ("colour@", "coloured error"))
    ]
    for padding, words, prefix, what in shown:
        series = []
        for norm, reading in SHOWN:
            rows = results.select(experiment="borders", padding=padding, norm=norm, reading=reading)
            line, low, high = over([course_points(row.figures, prefix) for row in rows], mean)
            words_of_norm = "instance norm" if norm == "instance" else f"batch norm, {READING_WORDS[reading]}"
            series.append(
                Series(f"pyramid, {words_of_norm}", COLOURS["pyramid", norm], line, DASHES[reading], low, high)
            )
        panels.append(Panel(f"{words}: {what} in levels", "pixels from the border", series))
    return chart(panels, 2)


def gatys_chart(results: Results) -> str:
    panels = []
    for style in results.settings["styles"]:
        rows = results.select(experiment="gatys", style=style, photograph=0)
        course = sorted(
            (r.figures["seconds"], r.figures["total"]) for r in rows if r.about["architecture"] == "optimised"
        )
        series = [Series("optimised by itself (L-BFGS)", OPTIMISED_COLOUR, course)]
        for row in rows:
            if row.about.get("norm") == "instance":
                architecture, last = row.about["architecture"], course[-1][0] if course else 1.0
                line = [(row.figures["seconds"], row.figures["total"]), (last, row.figures["total"])]
                series.append(Series(f"{architecture}, instance norm", COLOURS[architecture, "instance"], line))
        panels.append(Panel(f"{style}: objective", "seconds for the picture", series, log_x=True, log_y=True))
    return chart(panels, 2)
