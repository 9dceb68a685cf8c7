"""PyTorch draws the same in every run, whatever ran before."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
