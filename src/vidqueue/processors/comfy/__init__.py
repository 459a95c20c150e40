"""ComfyUI: graphs, templates, and runs on its servers. The processors `comfyui` and `sonic` are made of this."""
