"""The comparison of the paper's claims: the whole chain at a tiny budget, and each of its parts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from contract.errors import SettingsError
from generator.network import Architecture, Generator, GeneratorConfig, StyledNorm
from tests.trainer.conftest import pictures
from trainer.compare import SMOKE, app
from trainer.paper.charts import Panel, Series, chart
from trainer.paper.grids import MAX_BYTES, grid, save
from trainer.paper.light import ALTERATIONS, contrast, equalised, luminance
from trainer.paper.measures import border_distance, border_figures
from trainer.paper.pairs import AS_CLAIMED, MOSTLY, NOT, UNDECIDED, UNMEASURED, Pairs, share_verdict
from trainer.paper.plan import EXPERIMENTS, Budget, main_variants, normaliser, wanted_variants
from trainer.paper.readings import frozen, removed, stylized
from trainer.paper.report import budget_options
from trainer.paper.results import Results
from trainer.paper.verdicts import claims, worth_iterations
from trainer.paper.workshop import LOSS

pytestmark = pytest.mark.timeout(300)

BUDGET = Budget(("stripes", "checks"))


# --- The whole chain -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def arguments(
    vgg: Path, photographs: Path, paintings: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Of a comparison in a folder of its own, that is done."""
    folder = tmp_path_factory.mktemp("comparison")
    found = ["--smoke", "--vgg", str(vgg), "--content", str(photographs), "--held-out", str(photographs)]
    found += ["--out", str(folder / "out"), "--docs", str(folder / "docs"), "--device", "cpu"]
    found += ["--style", str(paintings[0]), "--style", str(paintings[1])]
    succeeds([*found])
    return found


def succeeds(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def folder_of(arguments: list[str], option: str) -> Path:
    return Path(arguments[arguments.index(option) + 1])


def test_one_command_trains_measures_and_writes(arguments: list[str]) -> None:
    docs = folder_of(arguments, "--docs")
    document = (docs / "paper.md").read_text()
    for name in EXPERIMENTS:
        assert f"--experiment {name} $BUDGET" in document
        with Image.open(docs / "paper" / f"{name}.jpg") as picture:
            assert picture.format == "JPEG"
        assert (docs / "paper" / f"{name}.jpg").stat().st_size < MAX_BYTES
    for line in document.split("("):
        if line.startswith("paper/"):
            assert (docs / line[: line.index(")")]).is_file(), "every figure that is shown is there"
    assert "nan" not in document
    assert UNMEASURED not in document.split("## How it was measured")[0]


def test_results_hold_no_path_of_the_machine(arguments: list[str]) -> None:
    text = (folder_of(arguments, "--out") / "results.json").read_text()
    assert str(Path.home()) not in text
    assert "/" not in json.dumps([row["about"] for row in json.loads(text)["rows"] if "alteration" not in row["about"]])


def test_what_is_trained_and_measured_is_not_done_again(arguments: list[str]) -> None:
    out, docs = folder_of(arguments, "--out"), folder_of(arguments, "--docs")
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    results = (out / "results.json").read_bytes()
    (docs / "paper.md").unlink()
    succeeds(arguments)
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == before
    assert (out / "results.json").read_bytes() == results, "seconds would be others"
    assert (docs / "paper.md").is_file()


def test_writing_needs_the_results_alone(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((folder_of(arguments, "--out") / "results.json").read_bytes())
    succeeds(["--step", "write", "--out", str(tmp_path), "--docs", str(tmp_path / "docs")])
    written = (tmp_path / "docs" / "paper.md").read_text()
    assert "## Borders" in written
    assert ".jpg)" not in written


def test_results_of_another_budget_are_not_mixed(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--step", "measure", "--batch", "3"])
    assert isinstance(result.exception, SettingsError)
    assert "another batch" in str(result.exception)


def test_a_measurement_that_is_missing_is_made(arguments: list[str]) -> None:
    path = folder_of(arguments, "--out") / "results.json"
    results = Results.read(path)
    whole = {json.dumps(row.about) for row in results.rows}
    results.rows = [row for row in results.rows if row.about.get("alteration") != "gamma 2"]
    results.save()
    succeeds([*arguments, "--step", "measure", "--experiment", "contrast"])
    assert {json.dumps(row.about) for row in Results.read(path).rows} == whole


@pytest.mark.parametrize(
    "wrong",
    [["--style", "woodcut"], ["--style", "woodcut", "--style", "woodcut"], ["--step", "dance"], ["--experiment", "x"]],
)
def test_what_cannot_be_compared_is_a_mistake_of_the_caller(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*wrong, "--out", str(tmp_path)])
    assert result.exit_code == 2


# --- What is trained -----------------------------------------------------------------------------------------------


def test_the_four_generators_differ_in_architecture_and_norm_alone() -> None:
    variants = main_variants(replace(BUDGET, seeds=3))
    assert len(variants) == len({variant.name for variant in variants}) == 4 * 2 * 3
    configs = [variant.config(BUDGET, LOSS) for variant in variants if variant.seed == 0]
    alike = {replace(config, generator=GeneratorConfig()) for config in configs}
    assert len(alike) == 1


def test_what_others_need_is_trained_first() -> None:
    order = wanted_variants(BUDGET, EXPERIMENTS)
    assert len(order) == len(set(order))
    first = next(place for place, variant in enumerate(order) if variant.light == "stylised")
    assert order.index(normaliser(BUDGET)) < first
    alone = wanted_variants(BUDGET, ("photographs",))
    assert alone[0] == normaliser(BUDGET)


def test_there_are_at_least_five_milestones_and_the_last_is_the_end() -> None:
    for iterations in (100, 1000, 4321):
        milestones = replace(BUDGET, iterations=iterations).milestones
        assert len(milestones) >= 5
        assert milestones[-1] == iterations


# --- Readings ------------------------------------------------------------------------------------------------------

CONTENTS = pictures(3, seed=3, size=64)


def network(architecture: Architecture, norm: Any, seed: int = 0) -> tuple[Generator, Tensor]:
    """A generator whose running averages, if it has any, are not those of a new one, and a style."""
    torch.manual_seed(seed)
    generator = Generator(GeneratorConfig(architecture, norm, width=3))
    style = generator.neutral_style() + 0.2 * torch.randn(generator.style_size)
    with torch.no_grad():
        for _ in range(20):
            generator.train()(CONTENTS, style.expand(3, -1))
    return generator.eval(), style


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
def test_batch_norm_over_a_single_picture_is_instance_norm(architecture: Architecture) -> None:
    of_batches, style = network(architecture, "batch")
    of_instances = Generator(GeneratorConfig(architecture, "instance", 3)).eval()
    of_instances.trunk.load_state_dict(of_batches.trunk.state_dict(), strict=False)
    single = stylized(of_batches, style, CONTENTS, "single")
    assert torch.allclose(single, stylized(of_instances, style, CONTENTS, "instance"), atol=1e-4)
    assert not torch.allclose(single, stylized(of_batches, style, CONTENTS, "running"), atol=1e-2)


def test_reading_a_network_leaves_it_as_it_was() -> None:
    generator, style = network("residual", "batch")
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    made = stylized(generator, style, CONTENTS, "running")
    stylized(generator, style, CONTENTS, "batch")
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())
    assert torch.equal(stylized(generator, style, CONTENTS, "running"), made)


def test_pictures_of_a_batch_share_their_statistics_and_single_ones_do_not() -> None:
    generator, style = network("residual", "batch")
    for reading, shared in (("batch", True), ("single", False), ("running", False)):
        together = stylized(generator, style, CONTENTS, reading)  # type: ignore[arg-type]
        alone = stylized(generator, style, CONTENTS[:1], reading)  # type: ignore[arg-type]
        assert torch.allclose(together[:1], alone, atol=1e-3) is not shared


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
def test_statistics_frozen_to_one_picture_change_nothing_for_that_picture(architecture: Architecture) -> None:
    generator, style = network(architecture, "instance")
    one = CONTENTS[:1]
    still = frozen(generator, style, one)
    assert torch.allclose(
        stylized(still, style, one, "running"), stylized(generator, style, one, "instance"), atol=1e-3
    )
    of_still, of_own = (stylized(net, style, CONTENTS[1:2], "running") for net in (still, generator))
    assert not torch.allclose(of_still, of_own, atol=1e-2)


def test_without_normalisation_a_layer_scales_and_shifts() -> None:
    generator, _ = network("residual", "instance")
    layer = next(module for module in removed(generator).modules() if isinstance(module, StyledNorm))
    x, style = torch.randn(2, 3, 8, 8), torch.randn(2, 6)
    gamma, beta = style[:, :, None, None].chunk(2, dim=1)
    assert torch.allclose(layer(x, iter([style])), gamma * x + beta, atol=1e-5)


# --- Light and borders ---------------------------------------------------------------------------------------------


def test_equalised_photographs_have_every_brightness_equally_often() -> None:
    dark = 0.2 + 0.3 * pictures(2, seed=8, size=64)
    light = luminance(equalised(dark)).flatten(1).sort(dim=1).values
    wanted = torch.linspace(0, 1, light.shape[1]).expand_as(light)
    assert (light - wanted).abs().max() < 0.1
    assert (luminance(dark).flatten(1).sort(dim=1).values - wanted).abs().max() > 0.3


def test_equalising_keeps_the_order_of_brightnesses() -> None:
    gray = torch.linspace(0.3, 0.6, 64).expand(1, 3, 1, 64)
    assert (luminance(equalised(gray)).diff(dim=3) >= 0).all()


def test_alterations_change_contrast_and_brightness_and_clip_nothing() -> None:
    photographs = pictures(4, seed=2)
    for name, alter in ALTERATIONS.items():
        altered = alter(photographs)
        assert 0 <= altered.min() <= altered.max() <= 1, name
    quarter = ALTERATIONS["contrast 1/4"](photographs)
    assert contrast(quarter) == pytest.approx(contrast(photographs) / 4, rel=1e-3)


def test_a_coloured_band_is_found_and_strokes_that_fall_otherwise_are_not() -> None:
    strokes = 0.2 * torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    band = torch.zeros(8, 3, 64, 64)
    band[:, 0, border_distance(64) < 4] = 0.2
    with_band, without = border_figures(strokes + band), border_figures(strokes)
    assert with_band["colour"] == pytest.approx(0.2 * 255 / math.sqrt(3), rel=0.1)
    assert without["colour"] < 0.1 * with_band["colour"]
    assert without["band"] == pytest.approx(without["interior"], rel=0.05)
    assert with_band["interior"] == without["interior"]
    assert with_band["colour@0"] > 5 * with_band["colour@10"]


def test_the_distance_to_the_border_is_that_of_the_nearest_side() -> None:
    assert border_distance(4).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


# --- Results and verdicts ------------------------------------------------------------------------------------------


def results_of(tmp_path: Path, budget: Budget = BUDGET) -> Results:
    return Results.open(tmp_path / "results.json", budget, "a machine")


def test_results_are_there_again_after_every_measurement(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    results.add({"experiment": "a", "seed": 0}, {"style": 1.5})
    results.add({"experiment": "a", "seed": 1}, {"style": 2.5})
    again = results_of(tmp_path)
    assert again.values("style", experiment="a") == [1.5, 2.5]
    assert again.knows(experiment="a", seed=1)
    assert not again.knows(experiment="a")
    again.forget("a")
    assert not again.rows


def test_seeds_and_styles_may_be_added_and_nothing_else(tmp_path: Path) -> None:
    results_of(tmp_path).add({"experiment": "a"}, {"style": 1})
    more = replace(BUDGET, seeds=3, styles=("stripes", "checks", "dots"))
    assert results_of(tmp_path, more).settings["seeds"] == 3
    with pytest.raises(SettingsError, match="another size"):
        results_of(tmp_path, replace(BUDGET, size=256))


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ((), UNMEASURED),
        (((1, 2), (1, 3)), AS_CLAIMED),
        (((1, 1.01), (1, 1.02)), f"{AS_CLAIMED}, but hardly"),
        (((1, 2), (1, 2), (1, 2), (2, 1)), MOSTLY),
        (((9, 10), (9, 10), (9, 10), (20, 1)), UNDECIDED),
        (((1, 2), (2, 1)), UNDECIDED),
        (((2, 1), (3, 1)), NOT),
    ],
)
def test_a_verdict_follows_from_the_numbers(pairs: tuple[tuple[float, float], ...], verdict: str) -> None:
    assert Pairs(pairs).verdict == verdict


def test_a_sentence_says_how_many_and_by_how_much() -> None:
    said = Pairs(((1, 2), (8, 4), (1, 4))).says("loss", "here", "there")
    assert said == "The loss is lower here than there in 2 of 3, on average 0.63 times as much."


@pytest.mark.parametrize(("count", "verdict"), [(4, AS_CLAIMED), (3, MOSTLY), (2, UNDECIDED), (1, NOT), (0, NOT)])
def test_what_holds_in_some_cases_is_called_by_their_share(count: int, verdict: str) -> None:
    assert share_verdict(count, 4) == verdict


def test_verdicts_turn_when_the_numbers_do(tmp_path: Path) -> None:
    """Instance norm is better by the numbers, then worse, and nothing else changes."""
    verdicts = []
    for factor in (0.5, 2.0):
        results = Results(tmp_path / "results.json", {**BUDGET.settings(), "device": ""}, [])
        for variant in main_variants(BUDGET):
            reading = "instance" if variant.norm == "instance" else "running"
            loss = factor if variant.norm == "instance" else 1.0
            about = {"experiment": "norms", "part": "losses", **variant.about(), "reading": reading}
            about["iteration"] = BUDGET.iterations
            results.add(about, dict.fromkeys(("total", "style", "content"), loss))
        verdicts.append([claim.verdict for claim in claims(results) if "improves" in claim.text])
    assert verdicts == [[AS_CLAIMED, AS_CLAIMED], [NOT, NOT]]


def test_a_generator_is_worth_the_iterations_that_get_below_it() -> None:
    course = [(iteration, {"total": 100.0 / iteration}) for iteration in (1, 10, 50, 100)]
    assert worth_iterations(course, 3.0) == 50
    assert worth_iterations(course, 0.5) == math.inf


def test_the_command_says_the_whole_budget() -> None:
    said = budget_options(SMOKE.settings())
    assert "--style stained_glass --style woodcut" in said
    assert "--texture-iterations 2" in said
    assert "--yardstick-iterations 1" in said


# --- Charts and grids ----------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart_draws_every_line_within_its_panel() -> None:
    falling = Series("a < b", "#123456", [(1, 100.0), (10, 10.0), (100, 1.0)], low=[90, 9, 0.9], high=[110, 11, 1.1])
    flat = Series("flat", "#654321", [(1, 5.0), (100, 5.0)], dash="2 3")
    root = ElementTree.fromstring(chart([Panel("one", "x", [falling, flat], log_x=True, log_y=True)] * 3, columns=2))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    lines = [one.attrib["points"] for one in root.iter(f"{SVG}polyline")]
    assert len(lines) == 2 * 3
    places = [tuple(float(value) for value in pair.split(",")) for line in lines for pair in line.split()]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    first = [tuple(float(value) for value in pair.split(",")) for pair in lines[0].split()]
    steps = [first[1][0] - first[0][0], first[2][0] - first[1][0]]
    assert steps[0] == pytest.approx(steps[1], abs=0.2), "both axes are logarithmic"
    assert first[0][1] < first[1][1] < first[2][1], "what falls goes down"
    assert [one.text for one in root.iter(f"{SVG}text")].count("a < b") == 1


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(1.0, 0.0), (2.0, 0.0)]])
def test_a_chart_of_little_is_a_chart(points: list[tuple[float, float]]) -> None:
    for log in (False, True):
        document = chart([Panel("little", "x", [Series("s", "#000000", points)], log_y=log)], 1)
        assert ElementTree.fromstring(document).tag == f"{SVG}svg"


def test_a_grid_is_saved_in_less_than_what_a_picture_in_the_docs_may_have(tmp_path: Path) -> None:
    noise = torch.rand(3, 400, 400)
    page = grid([[noise] * 4] * 3, ["one", "two", "three"], ["a", "b\nc", "d", "e"])
    save(page, tmp_path / "grid.jpg")
    assert (tmp_path / "grid.jpg").stat().st_size < MAX_BYTES
    small = grid([[noise[:, :32, :32]]], ["one"], ["a"])
    save(small, tmp_path / "small.jpg")
    with Image.open(tmp_path / "small.jpg") as saved:
        assert saved.size == small.size
