"""Models of the Hugging Face hub: one snapshot per repository, safetensors only.

They live in Hugging Face's own cache. ``trust_remote_code`` does not exist here: no Python file is ever fetched.
"""

from __future__ import annotations

from pathlib import Path

from pipespec.models.embedded import Progress
from pipespec.models.folder import Part, missing_files
from pipespec.ops.errors import ModelError

_TEXT_PATTERNS = ("*.json", "*.jinja", "tokenizer.model")
PATTERNS = {Part.WHOLE: ("*.safetensors", *_TEXT_PATTERNS), Part.TEXT: _TEXT_PATTERNS}
_NOT_OURS = ("*/*",)


def snapshot(repository: str, *, revision: str | None, part: Part = Part.WHOLE) -> Path | None:
    """Folder of a downloaded snapshot, or None when it is absent or incomplete. No network."""
    try:
        from huggingface_hub import constants, snapshot_download  # noqa: PLC0415 - an extra
        from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _extra_needed(repository) from error
    try:
        folder = Path(
            snapshot_download(
                repository, revision=revision, cache_dir=constants.HF_HUB_CACHE, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    return None if missing_files(folder, part=part) else folder


def download(
    repository: str, *, revision: str | None, on_progress: Progress, part: Part = Part.WHOLE
) -> Path:
    """Fetch what is missing of a snapshot; an interrupted download goes on where it stopped.

    Raises:
        ModelError: the hub refuses, is out of reach, or has no such repository or revision.
    """
    try:
        from huggingface_hub import constants, snapshot_download  # noqa: PLC0415 - an extra
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _extra_needed(repository) from error
    on_progress(f"downloading {repository}", 0.0)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=list(PATTERNS[part]),
            ignore_patterns=list(_NOT_OURS),
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ModelError(f"cannot download {repository!r}{at} from the hub: {error}") from error
    on_progress(f"downloading {repository}", 1.0)
    return Path(folder)


def snapshots() -> list[tuple[str, Path]]:
    """Ready snapshots in the hub's cache, as (repository, folder), by name."""
    try:
        from huggingface_hub import constants, scan_cache_dir  # noqa: PLC0415 - an extra
        from huggingface_hub.errors import CacheNotFound  # noqa: PLC0415 - an extra
    except ImportError:
        return []
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return sorted(
        (repository.repo_id, revision.snapshot_path)
        for repository in repositories
        if repository.repo_type == "model"
        for revision in repository.revisions
        if not missing_files(revision.snapshot_path)
    )


def _extra_needed(repository: str) -> ModelError:
    return ModelError(f"hub model {repository!r} needs huggingface_hub: pip install 'pipespec[stage]'")
