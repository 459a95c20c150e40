"""What the processor `generate` is made of: pipelines of diffusers, loaded from folders that the operator lists."""
