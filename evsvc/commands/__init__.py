"""The commands of `evsvc`, a file each."""
