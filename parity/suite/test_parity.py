"""The checks on every registered pair: ``pytest --pyargs parity.suite -m parity``."""

from parity.suite.generate import parity_tests

globals().update(parity_tests())
