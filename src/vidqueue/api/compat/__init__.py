"""The addresses that clients of other systems know, translated onto the same acts as the native ones."""
