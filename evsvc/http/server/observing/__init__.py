"""Who looks at finished exchanges: the access log, the counters, and observers of the program."""
