"""The catalogue of pair `fast`, empty: the modules beside this one fill it, and ``fast`` imports them all."""

from parity.faults.registry import Catalogue

CATALOGUE = Catalogue("fast")
