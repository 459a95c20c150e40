"""The implementation of the processor `generate`: pipelines of diffusers from configured folders."""
