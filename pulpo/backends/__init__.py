"""The targets: each module turns a plan into text."""
