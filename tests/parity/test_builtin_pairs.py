"""The suite on the pairs that ship, through the same entry point and function as anyone's."""

from parity.suite.generate import parity_tests

globals().update(parity_tests())
