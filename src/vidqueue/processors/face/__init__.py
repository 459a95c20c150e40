"""The implementation of `facefusion`: the program's flags, its command line, and how its output is interpreted."""
