"""Storage of file bytes in the data folder, and its free space."""
