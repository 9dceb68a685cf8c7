"""All that the README shows, run as it stands (the blocks with PyTorch are in against_torch)."""

import pytest
import readme


# A newcomer runs these without our strictness; what is tested here is that they run.
@pytest.mark.parametrize("block", [b for b in readme.blocks("python") if not readme.needs_torch(b)], ids=readme.title)
def test_python_block_runs(block):
    readme.run(block)


def test_commands_are_those_that_ci_runs():
    """`.ci/run` takes the installation and test command from the README itself; the training one is in test_train."""
    assert readme.blocks("sh") == ["pip install -e . && jaxlstm train\n", "pip install -e '.[test]' && pytest\n"]
