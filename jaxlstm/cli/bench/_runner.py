"""What a peer is to its worker."""

from typing import Protocol

import numpy as np


class Runner(Protocol):
    """One LSTM with its weights and input where it computes, in its library's own layout."""

    def compile(self, mode: str) -> dict[str, float | None]:
        """Make `mode` ready to run.

        Returns:
            `compile_s` in seconds (None where nothing is compiled), `temp_bytes`, the peak of temporary memory
            of one call (None where unknown), and for the matrix product `flops`.
        """
        ...

    def run(self, mode: str) -> object:
        """One call, waited for."""
        ...

    def numbers(self, mode: str) -> dict[str, np.ndarray]:
        """What one call gives, in PyTorch's names and layout, time before batch.

        `fwd`: output, h_n, c_n. `train`: the gradients of x and of each parameter; not the loss, whose terms cancel,
        so that in 16 bits little of it is left to compare.
        """
        ...
