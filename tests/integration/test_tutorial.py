"""The tutorial and the how-to pages are done as they stand: their files written, their commands typed."""

import pytest

from tests.support.pages import ROOT, Session, blocks
from tests.support.tools import needs

DOCS = ROOT / "docs"
EXAMPLE = ROOT / "examples" / "own_protocol"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
PLAYED = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]


@needs("curl", "openssl")
@pytest.mark.parametrize("page", PLAYED, ids=lambda page: page.stem)
def test_every_file_and_every_command_of_a_page_does_what_is_shown(tmp_path, page):
    with Session(tmp_path) as somebody:
        somebody.play(page)
        somebody.stop()


def test_the_example_is_what_the_tutorial_ends_with():
    files = {block.file: block.text for block in blocks(DOCS / "tutorial.md") if block.file}
    for name in ("tally.py", "tally.toml", "test_tally.py", "ask.py"):
        assert (EXAMPLE / name).read_text() == files[name], name
