"""Placeholder until the client library lands."""

import click


@click.command()
def chat() -> None:
    """chat."""
