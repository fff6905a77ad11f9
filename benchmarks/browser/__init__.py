"""An artifact in a real browser: its answers and its cost in Chromium, and a page that shows its mask."""
