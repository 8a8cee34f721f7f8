"""The ZeroMQ edge: clients are DEALER sockets, the gateway is one ROUTER; protocol version 1.

Frames. A client sends one frame, a msgpack map; it receives one frame, a msgpack map. (The ROUTER sees the client's
identity in front.) Every map has ``v`` (1) and ``type``. Unknown keys, extension types, duplicate keys and messages
over 2 MiB are refused.

Client to gateway::

    generate  id, one of text | token_ids | messages [{role, content}], and optionally: model, max_tokens,
              sampling {temperature, top_p, top_k, min_p, seed, repetition_penalty, presence_penalty,
              frequency_penalty, logit_bias {token id: bias}}, stop [str], speculate, ignore_eos, include_stats,
              timeout_s, resumable
    resume    id, resume_id: go on after this event of a resumable stream, through any gateway
    cancel    id, and optionally resume_id: of a resumable stream to end, that no request of this client reads
    ping      ids: requests that the client waits for; at least every 2 s while there are any

Gateway to client::

    started   id, resume_id: the name of a resumable stream; before its first event, and after resume
    tokens    id, start, token_ids, text     start: sequence number of token_ids[0]; text may lag behind the tokens
    done      id, finish_reason, usage {prompt_tokens, completion_tokens}, stages (with include_stats)
    error     id (nil when the message had none), code, message, param, kind, retry_after_s
              kind: invalid | overloaded | unavailable | lost | failed
    pong      model, ready

At most 16 ``cancel`` of streams are under way for a client; further ones are answered with ``overloaded``, and their
streams wait for another ``cancel`` with ``resume_id``, or for the end of the grace.

``tokens`` of a resumable stream carry ``resume_id``, what ``resume`` takes to go on after them; ``done`` has none, and
comes again for who resumes after it.

After ``generate`` come any number of ``tokens`` and then exactly one ``done`` or ``error``. Ids are the client's own, 1
to 128 letters, digits, ``.``, ``_``, ``:``, ``/``, ``-``; they need to be unique among its active requests only. A
``ping`` that names an id which the gateway does not know is answered with its ``error`` (``request_not_found``): so a
client learns that the gateway was restarted. A client that is silent for 10 s, or unreachable, loses its requests;
resumable streams then wait for ``resume`` for the grace period, and afterwards it is answered with ``resume_expired``.
"""

from pipespec.gateway.zmq.server import ZmqServer, serve_zmq

__all__ = ["ZmqServer", "serve_zmq"]
