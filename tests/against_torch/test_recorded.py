"""The recorded results that stand in for PyTorch where there is none are PyTorch's own."""

import cases
import numpy as np
import pytest
import recorded

from . import torch_oracle

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


@pytest.mark.parametrize("case", recorded.CASES, ids=str)
def test_recording_is_what_torch_gives(case):
    given = cases.arrays(case, np.float64)
    cases.assert_same(recorded.load(case), torch_oracle.run(case, given), values=1e-14, gradients=1e-13)
