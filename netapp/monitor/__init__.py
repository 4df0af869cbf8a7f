"""Services that watch the process and its surroundings."""
