"""Runs the processes of a pipeline on this machine: starts, watches, restarts and stops them."""
