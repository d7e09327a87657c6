"""In which precision a training runs."""

import torch

from trainer.precision import choose_precision


def test_the_precision_of_a_cpu_is_one_that_it_can_compute_in() -> None:
    precision = choose_precision(torch.device("cpu"))
    assert precision in (torch.float32, torch.bfloat16)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype == precision
