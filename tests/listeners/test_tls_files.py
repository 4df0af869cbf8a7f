"""PEM files: what is found in them, and what is said of the bad ones."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from netapp.errors import StartupError
from netapp.listeners.tls import TlsPolicy
from netapp.listeners.tls.files import look, read_certificates, read_pair, read_pairs
from tests.support.certificates import certificates


def refusal(read, *arguments) -> str:
    with pytest.raises(StartupError) as caught:
        read(*arguments)
    return str(caught.value)


def fill(folder, **issued):
    """Put each certificate there as ``NAME.pem``, key included."""
    folder.mkdir(exist_ok=True)
    for name, one in issued.items():
        shutil.copy(one.both, folder / f"{name}.pem")
    return TlsPolicy(directory=str(folder))


def served(policy) -> list[tuple[str, ...]]:
    return [pair.names for pair in read_pairs(policy)]


def test_a_pair_may_be_in_two_files_or_in_one():
    issued = certificates().server("a.example", "*.B.example")
    for certificate, key in ((issued.certificate, issued.key), (issued.both, issued.both)):
        pair = read_pair(str(certificate), str(key))
        assert pair.certificate == issued.leaf
        assert pair.names == ("a.example", "*.b.example")
        assert pair.source == str(certificate)


def test_intermediate_certificates_are_the_chain():
    issued = certificates().client("a@b.example", deep=2)
    assert len(read_pair(str(issued.certificate), str(issued.key)).chain) == 2


def test_a_certificate_without_names_has_none():
    issued = certificates().signed()
    assert read_pair(str(issued.both), str(issued.both)).names == ()


def test_text_around_the_blocks_is_no_matter(tmp_path):
    issued = certificates().server("a.example")
    file = tmp_path / "a.pem"
    file.write_bytes(
        b"subject=a.example\n" + issued.certificate.read_bytes() + b"\r\nkey\r\n" + issued.key.read_bytes()
    )
    assert read_pair(str(file), str(file)).certificate == issued.leaf


def test_a_missing_file_is_named(tmp_path):
    issued = certificates().server("a.example")
    missing = str(tmp_path / "missing.pem")
    assert refusal(read_pair, missing, missing) == f"{missing}: cannot be read: No such file or directory"
    assert (
        refusal(read_pair, str(issued.certificate), missing) == f"{missing}: cannot be read: No such file or directory"
    )
    assert "cannot be read: Is a directory" in refusal(read_certificates, str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    file = tmp_path / "secret.pem"
    file.write_bytes(certificates().server("a.example").both.read_bytes())
    file.chmod(0)
    assert refusal(read_certificates, str(file)) == f"{file}: cannot be read: Permission denied"


def test_permission_is_an_error_like_any_other_of_the_system(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert refusal(read_certificates, "/etc/key.pem") == "/etc/key.pem: cannot be read: Permission denied"


def test_a_file_that_is_not_pem_is_named(tmp_path):
    issued = certificates().server("a.example")
    der = tmp_path / "a.der"
    der.write_bytes(issued.leaf.public_bytes(Encoding.DER))
    assert refusal(read_certificates, str(der)).startswith(f"{der}: no certificate in it; expected PEM")
    assert refusal(read_pair, str(issued.certificate), str(der)).startswith(
        f"{der}: no private key in it; expected PEM"
    )
    assert refusal(read_certificates, str(issued.key)).startswith(f"{issued.key}: no certificate in it")


def test_damaged_blocks_are_named(tmp_path):
    issued = certificates().server("a.example")
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(re.sub(rb"M", b"!", issued.both.read_bytes()))
    assert refusal(read_certificates, str(damaged)).startswith(f"{damaged}: a certificate in it is damaged")
    assert refusal(read_pair, str(issued.certificate), str(damaged)).startswith(
        f"{damaged}: the private key is damaged"
    )
    damaged.write_bytes(issued.both.read_bytes()[:-40])
    assert refusal(read_certificates, str(damaged)).startswith(f"{damaged}: ")


def test_an_encrypted_key_is_named_with_what_to_do(tmp_path):
    issued = certificates().server("a.example")
    locked = tmp_path / "locked.key"
    key = load_pem_private_key(issued.key.read_bytes(), None)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        locked.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
        complaint = refusal(read_pair, str(issued.certificate), str(locked))
        assert complaint.startswith(f"{locked}: the private key is encrypted")
        assert complaint.endswith("store it decrypted, readable by the server alone")


def test_a_key_of_another_certificate_is_named():
    one, other = certificates().server("a.example"), certificates().server("b.example")
    assert refusal(read_pair, str(one.certificate), str(other.key)) == (
        f"{other.key}: this private key is not the one of the first certificate in {one.certificate}"
    )


def test_a_certificate_whose_names_cannot_be_read_is_named(tmp_path):
    issued = certificates().signed(x509.DNSName("a.example"))
    file = tmp_path / "strange.pem"
    der = issued.leaf.public_bytes(Encoding.DER).replace(b"a.example", b"\xe9.example")
    assert len(der) == len(issued.leaf.public_bytes(Encoding.DER))
    file.write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) + issued.key.read_bytes())
    assert refusal(read_pair, str(file), str(file)).startswith(f"{file}: the certificate cannot be used: ")


def test_a_folder_may_hold_certificates_in_three_forms(tmp_path):
    policy = fill(tmp_path, b=certificates().server("b.example"))
    a, c, d = (certificates().server(f"{name}.example") for name in "acd")
    shutil.copy(a.certificate, tmp_path / "a.crt")
    shutil.copy(a.key, tmp_path / "a.key")
    shutil.copy(d.certificate, tmp_path / "d.pem")
    shutil.copy(d.key, tmp_path / "d.key")
    (tmp_path / "c").mkdir()
    shutil.copy(c.certificate, tmp_path / "c" / "fullchain.pem")
    shutil.copy(c.key, tmp_path / "c" / "privkey.pem")
    assert served(policy) == [(f"{name}.example",) for name in "abcd"]


def test_what_is_no_certificate_by_its_name_is_left_alone(tmp_path):
    policy = fill(tmp_path, a=certificates().server("a.example"))
    for name in ("README", ".hidden.pem", "stray.key", "a.pem~"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / "empty").mkdir()
    assert served(policy) == [("a.example",)]


def test_the_default_of_a_folder_is_called_so_or_is_the_first(tmp_path):
    policy = fill(tmp_path, b=certificates().server("b.example"), c=certificates().server("c.example"))
    assert served(policy) == [("b.example",), ("c.example",)]
    fill(tmp_path, default=certificates().server("d.example"), a=certificates().server("a.example"))
    assert served(policy) == [("d.example",), ("a.example",), ("b.example",), ("c.example",)]


def test_the_certificate_itself_is_the_default_before_any_folder(tmp_path):
    fill(tmp_path, default=certificates().server("d.example"))
    own = certificates().server("own.example")
    policy = TlsPolicy(certificate=str(own.certificate), key=str(own.key), directory=str(tmp_path))
    assert served(policy) == [("own.example",), ("d.example",)]


def test_all_faults_of_a_folder_are_said_at_once(tmp_path):
    policy = fill(tmp_path, good=certificates().server("a.example"))
    (tmp_path / "lonely.crt").write_bytes(certificates().server("a.example").certificate.read_bytes())
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "privkey.pem").write_bytes(certificates().server("a.example").key.read_bytes())
    (tmp_path / "bad.pem").write_text("nothing")
    assert [line.partition(":")[0] for line in refusal(read_pairs, policy).splitlines()] == [
        str(tmp_path / name) for name in ("bad.pem", "half/fullchain.pem", "lonely.key")
    ]


def test_an_empty_or_missing_folder_is_named(tmp_path):
    policy = TlsPolicy(directory=str(tmp_path))
    assert refusal(read_pairs, policy).startswith(f"{tmp_path}: no certificate in this folder; expected NAME.pem")
    missing = TlsPolicy(directory=str(tmp_path / "missing"))
    assert refusal(read_pairs, missing) == f"{tmp_path}/missing: the folder cannot be read: No such file or directory"
    assert look(missing) == {f"{tmp_path}/missing": None}


def test_a_look_sees_every_change(tmp_path):
    """Written, come, gone, in a sub-folder, behind a link."""
    policy = fill(tmp_path, a=certificates().server("a.example"))
    seen = [look(policy)]

    def differs() -> bool:
        seen.append(look(policy))
        return seen[-1] != seen[-2]

    assert not differs()
    (tmp_path / "b").mkdir()
    assert differs(), "a folder came"
    (tmp_path / "b" / "fullchain.pem").write_text("new")
    assert differs(), "a file in it came"
    (tmp_path / "b" / "fullchain.pem").write_text("longer")
    assert differs(), "it was written to"
    (tmp_path / "elsewhere.txt").write_text("1")
    (tmp_path / "b" / "privkey.pem").symlink_to(tmp_path / "elsewhere.txt")
    assert differs(), "a link came"
    (tmp_path / "elsewhere.txt").write_text("22")
    assert differs(), "what it leads to was written to"
    (tmp_path / "a.pem").unlink()
    assert differs(), "a file went"
    assert not differs()


def test_a_look_sees_a_file_that_was_replaced_by_one_of_the_same_size_and_age(tmp_path):
    file, new = tmp_path / "a.pem", tmp_path / "new.pem"
    file.write_text("1")
    before = look(TlsPolicy(certificate=str(file)))
    new.write_text("2")
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.replace(file)
    assert look(TlsPolicy(certificate=str(file))) != before


def test_a_look_includes_the_single_files(tmp_path):
    issued, ca = certificates().server("a.example"), tmp_path / "ca.pem"
    policy = TlsPolicy(
        certificate=str(issued.certificate), key=str(issued.key), client_ca=str(ca), client_auth="optional"
    )
    before = look(policy)
    assert set(before) == {str(issued.certificate), str(issued.key), str(ca)}
    assert before[str(ca)] is None
    ca.write_text("there")
    assert look(policy)[str(ca)] is not None
