"""The settings: every name, its bounds and its default; read once and checked as a whole.

Only `wiring` and the commands know this folder; everything else is given plain values.
"""
