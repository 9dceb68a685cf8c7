"""The README's blocks that need PyTorch, run as they stand."""

import pytest
import readme


@pytest.mark.parametrize("block", [b for b in readme.blocks("python") if readme.needs_torch(b)], ids=readme.title)
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme.run(block)
