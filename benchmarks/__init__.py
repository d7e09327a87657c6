"""What it costs: one command for each kind of figure."""

import worker  # noqa: F401 - how threads wait is said there, before PyTorch is loaded
