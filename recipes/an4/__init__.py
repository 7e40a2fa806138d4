"""Speech recognition with CTC on AN4, or on any folder of recordings with transcripts."""
