"""evsvc: libevent's system for Python, on one event base."""
