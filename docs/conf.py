"""How Sphinx builds the documentation: Markdown by MyST, the look by furo, and three generated parts by ``_ext``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from netapp import __version__  # noqa: E402 - from this checkout, which the line above has put first

project = "netapp"
author = "The netapp authors"
copyright = "2026, The netapp authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "command_reference", "config_reference"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"netapp {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False
python_use_unqualified_type_names = True
