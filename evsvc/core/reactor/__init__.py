"""What is pending, and when it runs: an event base and its parts."""
