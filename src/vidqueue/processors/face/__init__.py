"""FaceFusion as a program: its flags, its command line, and what its output and exit code mean."""
