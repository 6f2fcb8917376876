"""What a frame may have at most, so that a hostile file is refused before memory is taken for it."""

MOST_PIXELS = 1 << 26  # Of a frame: 8192 x 8192; those of angiograms have up to 2048 x 2048.
