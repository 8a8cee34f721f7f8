"""The OpenAI-compatible HTTP edge: completions, chat completions, models, health."""

from pipespec.gateway.openai.app import create_app
from pipespec.gateway.openai.server import HttpServer, serve_http

__all__ = ["HttpServer", "create_app", "serve_http"]
