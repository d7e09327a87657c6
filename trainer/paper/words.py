"""What the sections of the document say, whatever comes out."""

from collections.abc import Callable
from dataclasses import dataclass

from trainer.paper import plots, tables
from trainer.paper.results import Results


@dataclass(frozen=True)
class Section:
    title: str
    words: str
    table: Callable[[Results], str]
    picture_words: str
    charts: Callable[[Results], str] | None = None
    chart_words: str = ""

    @property
    def anchor(self) -> str:
        """As GitHub makes it from the title."""
        kept = "".join(one for one in self.title.lower() if one.isalnum() or one in " -")
        return kept.replace(" ", "-")


SECTIONS = {
    "norms": Section(
        "Batch norm and instance norm in both generators",
        "The paper's main picture (its figure 5) is a square: two generators, each with batch norm and with "
        "instance norm, trained with the same hyperparameters. *Both benefit*, it says; with batch norm both "
        "have similar shortcomings. Of the generators with batch norm it says that they had to be stopped "
        "early.",
        tables.norms_table,
        "The square of the paper for each style. Batch norm is shown in two readings: with its running "
        "averages, and with the statistics of the very picture.",
        plots.norms_chart,
        "Objective of the training, and held-out losses at the milestones, against iterations. Bands reach "
        "from the lowest to the highest seed.",
    ),
    "test_time": Section(
        "Instance norm at test time",
        "Instance norm *is applied at test time as well*, says the paper, unlike batch norm. Here generators "
        "that were trained with instance norm are used as they are, with the statistics of every layer frozen "
        "to their average over photographs, and with normalisation removed, so that layers but scale and "
        "shift.",
        tables.test_time_table,
        "A photograph through generators with instance norm: kept, frozen and removed.",
    ),
    "contrast": Section(
        "Contrast and brightness",
        "Why does it help? The contrast of a stylized picture should not depend on that of the photograph, "
        "says the paper (its figure 2), and a network with batch norm would have to learn to remove it. Here "
        "the same photographs are stylized at several contrasts and brightnesses; the less the results "
        "differ, the better. A generator that makes the same of everything would have no difference at all, "
        "so what counts is the difference as a share of that between two photographs. For a gain and an "
        "offset, instance norm does this by its equation, whatever it has learnt, up to its ε, which counts "
        "where a coarse scale of a small picture is nearly flat; the gammas are the test.",
        tables.contrast_table,
        "The first style, residual generators. Each column should look like the first one.",
    ),
    "photographs": Section(
        "What instance norm normalises",
        "The paper that measured the same networks later (1703.06868) doubted that contrast is the reason. It "
        "trained them on photographs as they are, on photographs whose brightness was equalised, and on "
        "photographs that another network had put into another style before. On the last ones instance norm "
        "was hardly better, so what it normalises would be the style. Here held-out photographs are altered "
        "as those of the training are, and the generator that stylizes them in advance is that of the second "
        "style.",
        tables.photographs_table,
        "Three held-out photographs as each training sees them, and what its generators make of the first.",
        plots.photographs_chart,
        "Held-out style loss against iterations, on photographs in three lights.",
    ),
    "borders": Section(
        "Borders",
        "With batch norm and zero padding the paper's figure 3 shows coloured bands along the borders; they "
        "go away with another padding, and also with instance norm in spite of zero padding. Here the *error* "
        "is how a stylized crop differs from the same crop of the stylized, larger photograph: near the "
        "border because of the padding, anywhere because the whole has other statistics. The *coloured error* "
        "is what all photographs have in common: how far the mean error near the border, over all of them, is "
        "from that of the interior; strokes that merely fall otherwise cancel out in it. *Border* is the "
        "outermost sixteenth of the side, *interior* begins at an eighth. All in levels of 255.",
        tables.borders_table,
        "Pyramids of the first style with both paddings.",
        plots.borders_chart,
        "Error against the distance from the border. Bands of the chart reach from the lowest to the highest seed.",
    ),
    "resolution": Section(
        "Resolution",
        "The paper's figure 6 shows one portrait at 512 and at 1080 px. A generator is convolutional and "
        "takes any size, but the strokes that it has learnt have a size in pixels.",
        tables.resolution_table,
        "The first style, generators with instance norm: the whole picture made small, and its middle, one "
        "pixel for one.",
    ),
    "gatys": Section(
        "Optimised pictures as the yardstick",
        "Before there were generators, each picture was optimised by itself (Gatys et al. 2016). That is "
        "slow, and the best that can be had of the loss: L-BFGS in the pixels, begun from the photograph, "
        "with the very loss of the training.",
        tables.gatys_table,
        "A photograph optimised by itself, and by one pass of each generator with instance norm.",
        plots.gatys_chart,
        "Objective of one photograph against the seconds that it takes. Horizontal lines begin where a "
        "generator is done.",
    ),
    "texture": Section(
        "Textures from noise",
        "The generator that the paper starts from made textures as well (Ulyanov et al. 2016, section 3.4): "
        "noise instead of a photograph, Gram matrices as the only loss. The original has noise of its own at "
        "each scale, and batch norm; here the noise of all scales is added up in one picture, and both norms "
        "are tried. Padding is circular. `python -m trainer.train texture` trains one.",
        tables.texture_table,
        "A style picture, and four samples from other noise.",
    ),
}
"""By the experiment."""
