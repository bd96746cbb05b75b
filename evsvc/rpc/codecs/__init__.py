"""How messages become bytes."""
