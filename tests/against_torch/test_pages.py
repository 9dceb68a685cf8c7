"""The code on the site's pages that show PyTorch."""

import pytest
import run_page


@pytest.mark.parametrize("page", [page for page in run_page.pages() if run_page.needs_torch(page)])
def test_page_runs(page, tmp_path):
    run_page.check(page, tmp_path)
