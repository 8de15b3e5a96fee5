"""The faults and negative controls of the shipped pairs."""
