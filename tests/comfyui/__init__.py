"""ComfyUI: a contract server that replays recorded answers, and a real checkout where one is given."""
