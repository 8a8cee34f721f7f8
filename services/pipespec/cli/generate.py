"""Placeholder until the client library lands."""

import click


@click.command()
def generate() -> None:
    """generate."""
