"""Making calls: the pool, and a call on its way."""
