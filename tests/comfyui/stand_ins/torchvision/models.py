"""Names that ComfyUI imports and that tests do not use."""
