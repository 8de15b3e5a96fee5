"""What pyproject.toml cannot say: ``fixtures/`` travels in the wheel as the data package ``parity._fixtures``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["parity", "parity.*"]), "parity._fixtures"],
    package_dir={"parity._fixtures": "fixtures"},
)
