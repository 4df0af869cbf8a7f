"""Programs of other people that tests use as peers."""

import os
import shutil

import pytest


def needs(*tools):
    """Skip a test where one of these programs is not installed; where they are required (as in CI), fail instead."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if os.environ.get("NETAPP_TEST_TOOLS") == "required":
        return pytest.mark.skipif(False, reason="required")
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
