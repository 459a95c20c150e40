"""Everything that touches bytes of pictures and sound: the jail, the probe, ffmpeg, the frame pipeline."""
