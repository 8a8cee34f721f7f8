"""Ask a gateway over HTTP for text, as `helm test` does: the standard library, and nothing of PipeSpec.

    python generate_http.py URL PROMPT MAX_TOKENS

Prints the text. Ends with 1 where the answer is empty, and with a traceback where there is none.
"""

import json
import sys
from urllib.request import Request, urlopen

TIMEOUT_S = 120


def post(url: str, body: dict) -> dict:
    """Answer of the gateway to a JSON body."""
    headers = {"Content-Type": "application/json"}
    request = Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the release's own gateway
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
        return json.load(answer)


def main(url: str, prompt: str, max_tokens: str) -> int:
    """Generate; the gateway says which model it serves."""
    with urlopen(f"{url}/v1/models", timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
        model = json.load(answer)["data"][0]["id"]
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "messages": messages, "max_tokens": int(max_tokens)}
    completion = post(f"{url}/v1/chat/completions", body)
    text = completion["choices"][0]["message"]["content"]
    sys.stdout.write(f"{text}\n")
    return 0 if text else 1


sys.exit(main(*sys.argv[1:]))
