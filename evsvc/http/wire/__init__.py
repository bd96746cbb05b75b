"""HTTP's bytes: heads, bodies and pages, read and written.  Sans-IO; imports nothing above."""
