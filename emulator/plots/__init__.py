"""Figures as pictures: what each shows, as numbers; how it looks; PNG and SVG files."""
