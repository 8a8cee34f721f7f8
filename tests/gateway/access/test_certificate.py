"""A pair that does not fit is refused as a whole, and what was loaded before stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.keys import CERTIFICATES, copy_for_owner, lay_certificate
from pipespec.gateway.access import Certificate
from pipespec.ops.errors import SettingsError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The first pair."""
    return lay_certificate("first", tmp_path)


def test_a_pair_of_files_that_does_not_fit_changes_nothing(files: tuple[Path, Path]) -> None:
    certificate = Certificate(*files)
    before = certificate.pair
    copy_for_owner(CERTIFICATES / "second.crt", files[0])
    with pytest.raises(SettingsError, match="cannot be used"):
        certificate.load()
    assert certificate.pair == before
    copy_for_owner(CERTIFICATES / "second.key", files[1])
    certificate.load()
    assert certificate.pair.chain == (CERTIFICATES / "second.crt").read_bytes()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_a_settings_error(files: tuple[Path, Path], text: str) -> None:
    files[0].write_text(text)
    with pytest.raises(SettingsError, match="cannot be used"):
        Certificate(*files)


def test_a_missing_file_is_a_settings_error(files: tuple[Path, Path]) -> None:
    files[1].unlink()
    with pytest.raises(SettingsError, match="cannot read"):
        Certificate(*files)


def test_an_encrypted_key_is_refused_instead_of_asking_for_a_password(files: tuple[Path, Path]) -> None:
    copy_for_owner(CERTIFICATES / "encrypted.key", files[1])
    with pytest.raises(SettingsError, match="it is encrypted"):
        Certificate(*files)


def test_a_key_that_others_can_read_is_refused_and_a_chain_is_not(files: tuple[Path, Path]) -> None:
    files[0].chmod(0o644)
    certificate = Certificate(*files)
    files[1].chmod(0o644)
    with pytest.raises(SettingsError, match=r"mode 0644.*chmod 600"):
        certificate.load()
