"""This machine: its lanes, and one attempt on one of them."""
