"""The pytest face of the checks: ``pytest --pyargs parity.suite -m parity`` judges every registered pair."""
