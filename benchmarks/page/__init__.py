"""A result as a page: one HTML file that needs no network, and the same numbers as CSV and Markdown."""
