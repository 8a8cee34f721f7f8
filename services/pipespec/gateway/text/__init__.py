"""The gateway's text side: prompts to token ids, chat templates, token ids back to text, stop strings. No torch."""

from pipespec.gateway.text.chat_template import ChatMessage, ChatTemplate
from pipespec.gateway.text.detokenizer import Detokenizer
from pipespec.gateway.text.model import TextModel
from pipespec.gateway.text.stop_strings import StopStrings

__all__ = ["ChatMessage", "ChatTemplate", "Detokenizer", "StopStrings", "TextModel"]
