"""Strictness for every test: warnings are errors (pyproject.toml), and so is an implicit promotion of rank or dtype."""

from strict import strictly

strictly()
