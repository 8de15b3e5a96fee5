"""The checks, one module each, and their registry. A check is a strategy of examples and a body that judges one."""
