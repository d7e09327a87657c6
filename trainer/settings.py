"""What the trainer reads from its environment (prefix ``ATELIER_``)."""

from pathlib import Path

from contract.settings import ContractSettings


class TrainerSettings(ContractSettings):
    content: Path | None = None
    """The folder of photographs to train on."""
    vgg: Path | None = None
    """The VGG-19 weights of the descriptor network, as safetensors."""
