"""The catalogue of pair `fast`, empty: the modules beside this one fill it, and the package imports them all."""

from parity.faults.registry import Catalogue

CATALOGUE = Catalogue("fast")
