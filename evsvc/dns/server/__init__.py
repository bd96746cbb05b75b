"""The server: ports, queries as the program sees them, and their replies."""
