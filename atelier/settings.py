"""What the launcher and the command line read from their environment (prefix ``ATELIER_``)."""

from pydantic import Field

from contract.settings import ContractSettings


class LauncherSettings(ContractSettings):
    host: str = Field(default="127.0.0.1", min_length=1)
    """The address that the gateway listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port that the gateway listens on; 0 takes a free one."""
    redis_url: str = ""
    """Your own Redis; without one, a Redis of its own is started."""
    metrics_port: int = Field(default=0, ge=0, le=65534)
    """The port of the worker's figures, 0 is none; the trainer's is the next one."""
    url: str = ""
    """Where a service runs; default: the one on this data folder."""
