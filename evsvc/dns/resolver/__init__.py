"""The resolver: lookups, the nameservers that they go to, and what is kept of the answers."""
