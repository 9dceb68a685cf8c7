"""PyTorch's results for some cases of the grid, recorded in float64, for machines that have no PyTorch.

`python tests/recorded.py` records them anew (with torch installed).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, arrays, grid

FILE = Path(__file__).with_name("recorded_torch.npz")
# Two layers hold all that one does; batch_first moves axes only.
CASES = [replace(case, batch_first=False) for case in grid() if case.num_layers == 2 and case.batched]


def load(case: Case) -> dict[str, np.ndarray]:
    """The recorded results of one case."""
    with np.load(FILE) as archive:
        return {name.split("/")[1]: archive[name] for name in archive.files if name.split("/")[0] == str(case)}


if __name__ == "__main__":
    from against_torch import torch_oracle

    results = {case: torch_oracle.run(case, arrays(case, np.float64)) for case in CASES}
    by_name: dict[str, Any] = {
        f"{case}/{name}": array for case, result in results.items() for name, array in result.items()
    }
    np.savez_compressed(FILE, **by_name)
