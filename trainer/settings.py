"""What the trainer reads from its environment (prefix ``ATELIER_``)."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from contract.settings import ContractSettings


class TrainerSettings(ContractSettings):
    device: str = ""
    """``cpu`` or ``cuda`` (``cuda:1`` …); default: CUDA where there is one."""
    content: Path | None = None
    """The folder of photographs to train on."""
    vgg: Path | None = None
    """The VGG-19 weights of the descriptor network: a safetensors file, or torchvision's own."""
    fetch: Literal["auto", "never"] = "auto"
    """Whether descriptor weights and photographs that are missing are fetched when a training needs them."""
    mirror: str = ""
    """The address under which they lie by name, instead of where they are published."""
    training_size: int = Field(default=256, ge=32)
    """The largest side of crops, previews and evaluated photographs, in pixels: less is faster and sees less."""
    base_style: str = ""
    """The style on whose trunk new styles are learnt; default: one of those that ship with Atelier."""
    checkpoint_seconds: float = Field(default=30, gt=0)
    """How much of a training a crash may lose."""
    preview_seconds: float = Field(default=5, gt=0)
    """How often a training shows what it has come to."""
    metrics_host: str = "127.0.0.1"
    """The address on which Prometheus finds the figures of this process."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Their port; 0 is none."""
