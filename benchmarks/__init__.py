"""Measurements side by side: every figure is a ratio to something that ran in the same rounds on the same machine."""
