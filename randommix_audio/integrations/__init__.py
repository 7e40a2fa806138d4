"""Adapters for training toolkits, a module for each; `import randommix_audio` imports none of them.

Each converts what its toolkit calls a batch (axis order, lengths) and keeps the plan where the toolkit's loss code
finds it. docs/integrations.md has a section for each.
"""
