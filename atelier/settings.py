"""What the launcher and the command line read from their environment (prefix ``ATELIER_``)."""

from contract.settings import ContractSettings


class LauncherSettings(ContractSettings):
    host: str = "127.0.0.1"
    """The address that the gateway listens on."""
    port: int = 8000
    """The port that the gateway listens on."""
    redis_url: str = ""
    """Your own Redis; without one, a Redis of its own is started."""
    url: str = ""
    """Where a service runs; default: the one on this data folder."""
