"""Pairs: a recipe builds both sides, a parameter map carries weights across, stress weights make them speak."""
