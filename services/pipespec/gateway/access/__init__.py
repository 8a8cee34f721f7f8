"""Who may ask the gateway for what: principals, the keys that they are known by, the gateway's certificate."""

from pipespec.gateway.access.access import Access
from pipespec.gateway.access.certificate import Certificate, PemPair
from pipespec.gateway.access.followed_files import FollowedFiles
from pipespec.gateway.access.key_file import load_key_file
from pipespec.gateway.access.key_ring import KeyRing
from pipespec.gateway.access.principal import Principal, name_of

__all__ = [
    "Access",
    "Certificate",
    "FollowedFiles",
    "KeyRing",
    "PemPair",
    "Principal",
    "load_key_file",
    "name_of",
]
