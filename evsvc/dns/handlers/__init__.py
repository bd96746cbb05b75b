"""Ready handlers for a `DnsServer`: zones, forwarders, registries, and chains of them by name.

Each is called as any callback of a server, `handler(request, arg)`, so a callback of the program
may also hand a request on to one.
"""
