"""The code on the site's pages runs, a page as one script, and prints what the page says (with PyTorch: against_torch)."""

import pytest
import run_page


@pytest.mark.parametrize("page", [page for page in run_page.pages() if not run_page.needs_torch(page)])
def test_page_runs(page, tmp_path):
    run_page.check(page, tmp_path)
