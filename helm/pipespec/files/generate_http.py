"""Ask a gateway over HTTP for text, as `helm test` does: the standard library, and nothing of PipeSpec.

    python generate_http.py URL PROMPT MAX_TOKENS [CA]

The key, where the gateway asks for one, is in PIPESPEC_API_KEY; CA is a file of authorities to trust. Prints the text.
Ends with 1 where the answer is empty, and with a traceback where there is none.
"""

import json
import os
import ssl
import sys
from urllib.request import Request, urlopen

TIMEOUT_S = 120


def ask(url: str, body: dict | None, tls: ssl.SSLContext | None) -> dict:
    """Answer of the gateway; to a JSON body where there is one."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("PIPESPEC_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    content = None if body is None else json.dumps(body).encode()
    request = Request(url, content, headers)  # noqa: S310 - the release's own gateway
    with urlopen(request, timeout=TIMEOUT_S, context=tls) as answer:  # noqa: S310 - as above
        return json.load(answer)


def main(url: str, prompt: str, max_tokens: str, ca: str = "") -> int:
    """Generate; the gateway says which model it serves."""
    tls = ssl.create_default_context(cafile=ca or None) if url.startswith("https") else None
    model = ask(f"{url}/v1/models", None, tls)["data"][0]["id"]
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "messages": messages, "max_tokens": int(max_tokens)}
    completion = ask(f"{url}/v1/chat/completions", body, tls)
    text = completion["choices"][0]["message"]["content"]
    sys.stdout.write(f"{text}\n")
    return 0 if text else 1


sys.exit(main(*sys.argv[1:]))
