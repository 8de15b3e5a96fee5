"""Planted faults: small, named, reversible changes that a check must catch, and harmless ones that none may."""
