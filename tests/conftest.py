"""What every test run shares."""

from tests.support.coverage_gate import CoverageGate


def pytest_addoption(parser):
    parser.addoption(
        "--coverage-gate",
        metavar="REPORT",
        help="fail the run when a package's coverage in this JSON report (written by pytest-cov) is below its mark",
    )


def pytest_configure(config):
    report = config.getoption("--coverage-gate")
    if report:
        config.pluginmanager.register(CoverageGate(report))
