"""Keyword recognition on Google Speech Commands."""
