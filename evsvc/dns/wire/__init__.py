"""DNS messages as bytes, read and written.  Sans-IO; imports nothing above."""
