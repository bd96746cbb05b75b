"""How clients come in: listening sockets, what carries their bytes, and how many may be here."""
