"""What only a root conftest can do; profiles, markers and devices live in the plugin, so that a wheel has them."""

# The plugin's own tests run pytest inside pytest.
pytest_plugins = ("pytester",)
