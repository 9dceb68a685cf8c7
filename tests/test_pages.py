"""The code on the pages of the site runs, a page as one script, and prints what the page says."""

import pytest
import run_page


@pytest.mark.parametrize("page", [page for page in run_page.pages() if not run_page.needs_torch(page)])
def test_page_runs(page, tmp_path):
    run_page.check(page, tmp_path)
