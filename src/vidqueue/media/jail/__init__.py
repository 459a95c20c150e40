"""What confines ffmpeg: the sandbox from outside, the launcher inside, the formats it may open."""
