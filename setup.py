"""Package metadata; tool configuration is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

EXTRAS = {
    "cluster": ["txredisapi>=1.4.11"],
    "http2": ["h2>=4.3"],
    "uvloop": ["uvloop>=0.22; platform_system != 'Windows'"],
    "otel": ["opentelemetry-api>=1.30", "opentelemetry-sdk>=1.30"],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})
EXTRAS["test"] = [
    "hypothesis>=6.100",
    "pytest>=8.3",
    "pytest-cov>=6",
    "pytest-twisted>=1.14.3",
    "trustme>=1.2",
]
EXTRAS["lint"] = ["import-linter>=2.3", "mypy>=1.18", "mypy-zope>=1.0.14", "ruff>=0.14", "types-protobuf>=7"]
EXTRAS["docs"] = ["furo>=2025.7", "myst-parser>=4", "sphinx>=8.1"]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    *EXTRAS["lint"],
    *EXTRAS["docs"],
    "build>=1.2",
    "grpcio-tools>=1.85",
    "setuptools>=77",
    "towncrier>=24.8",
]

setup(
    name="netapp",
    version="0.1.0",
    description="Hardened HTTP, WebSocket and TCP services on Twisted, as one twistd plugin and as a library",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # "twisted.plugins" is a namespace folder that Twisted itself owns: it carries our one plugin module and must
    # never gain an __init__.py here, or it would hide every other project's plugins.
    packages=[*find_packages(include=["netapp", "netapp.*"]), "twisted.plugins"],
    # Said although it is the default: with it, an editable install puts this folder on the path, where Twisted looks
    # for twisted/plugins; without it, setuptools installs an import hook, which Twisted's search does not see.
    package_dir={"": "."},
    package_data={"netapp": ["py.typed"], "netapp.protocols": ["*.proto", "*.pyi"]},
    include_package_data=True,
    install_requires=[
        "Twisted[tls]>=26.10",
        "autobahn>=25.10",
        "cryptography>=45",
        "httptools>=0.7",
        "msgspec>=0.19",
        "prometheus-client>=0.22",
        "protobuf>=7.35.1",
        "pyOpenSSL>=25.3",
        "service-identity>=24.2",
        "treq>=25.5",
        "zope.interface>=7",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["netapp = netapp.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
