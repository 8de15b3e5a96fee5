"""Mutants: small changes made to source code by rule, to measure what the checks see."""
