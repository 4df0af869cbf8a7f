"""What a header section means, without a connection."""

import pytest

from netapp.http import HttpError
from netapp.protocols.http1 import HttpPolicy
from netapp.protocols.http1.head import check_host, check_limits, read_head

POLICY = HttpPolicy()


def read(*fields, method="GET", target=b"/", version="1.1", host=b"example.com"):
    raw = [(b"host", host)] if host is not None else []
    raw += fields
    return read_head(method, target, version, raw, POLICY)


def status(*fields, **options):
    with pytest.raises(HttpError) as caught:
        read(*fields, **options)
    return caught.value.status


def test_a_plain_head_has_no_content_and_keeps_the_connection():
    head = read()
    assert (head.length, head.chunked, head.expect, head.keep_alive) == (0, False, False, True)
    assert (head.host, head.path, head.query) == ("example.com", b"/", b"")


def test_the_target_is_split_into_path_and_query():
    head = read(target=b"/a/b?c=d?e")
    assert (head.path, head.query) == (b"/a/b", b"c=d?e")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://example.com", b"/", b""),
        (b"http://example.com/", b"/", b""),
        (b"HTTPS://EXAMPLE.com/a", b"/a", b""),
        (b"http://example.com?a", b"/", b"a"),
    ],
)
def test_an_absolute_target_is_read(target, path, query):
    head = read(target=target)
    assert (head.host, head.path, head.query) == ("example.com", path, query)


def test_an_absolute_target_names_the_host_of_an_http_1_0_request():
    assert read(target=b"http://example.com/", version="1.0", host=None).host == "example.com"


@pytest.mark.parametrize(
    "value",
    [
        b"example.com",
        b"EXAMPLE.com:80",
        b"a:",
        b"127.0.0.1",
        b"[::1]",
        b"[::1]:8080",
        b"a_b.example",
        b"xn--bcher-kva.example",
    ],
)
def test_a_host_is_accepted_and_lowered(value):
    assert check_host(value) == value.decode().lower()


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"a b", b"a/b", b"a@b", b"a, b", b"a?b", b"a#b", b"a\\b", b"[::1", b"::1", b"a:b", b"a:123456"],
)
def test_a_host_is_refused(value):
    with pytest.raises(HttpError):
        check_host(value)


@pytest.mark.parametrize("value", [b"x" * 254, b"a\x00", b"\xc3\xa9", b"a\nb", b"a\x0bb", b"<a>", b'"a"'])
def test_a_host_with_what_no_name_holds_is_refused(value):
    with pytest.raises(HttpError):
        check_host(value)


@pytest.mark.parametrize("options", [[b"close", b"keep-alive"], [b"keep-alive", b"close"], [b"close, keep-alive"]])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_close_wins_over_keep_alive_in_any_order(options, version):
    assert not read(*[(b"connection", option) for option in options], version=version).keep_alive


def test_expect_is_for_http_1_1():
    assert read((b"expect", b"100-Continue")).expect
    assert not read((b"expect", b"100-continue"), version="1.0").expect
    assert status((b"expect", b"200-ok")) == 417


@pytest.mark.parametrize("value", [b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked;a", b""])
def test_the_only_transfer_coding_is_chunked(value):
    assert status((b"transfer-encoding", value)) == 400


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"chunked \t"])
def test_chunked_is_read(value):
    assert read((b"transfer-encoding", value)).chunked


def test_chunked_is_for_http_1_1():
    assert status((b"transfer-encoding", b"chunked"), version="1.0") == 400


@pytest.mark.parametrize("method", ["CONNECT", "SETUP", "DESCRIBE", "PLAY", "TEARDOWN", "GET_PARAMETER"])
def test_methods_that_are_not_of_this_server_are_refused(method):
    assert status(method=method) == 501


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_other_versions_are_refused(version):
    assert status(version=version) == 505


def test_too_long_a_content_is_refused_by_its_announcement():
    assert status((b"content-length", b"1048577")) == 413
    assert read((b"content-length", b"1048576")).length == 1048576


def test_underscored_names_are_dropped_from_the_list_itself():
    raw = [(b"host", b"x"), (b"x_real_ip", b"1"), (b"x-real-ip", b"2")]
    read_head("GET", b"/", "1.1", raw, POLICY)
    assert raw == [(b"host", b"x"), (b"x-real-ip", b"2")]


def over(target=b"/", raw=(), pending=0, **policy):
    try:
        check_limits(target, list(raw), HttpPolicy(**policy), pending)
    except HttpError as error:
        return error.status
    return None


def test_limits_are_the_last_size_that_is_allowed():
    assert over(b"x" * 10, max_request_line=10) is None
    assert over(b"x" * 11, max_request_line=10) == 414
    assert over(raw=[(b"a", b"b")] * 3, max_headers=3) is None
    assert over(raw=[(b"a", b"b")] * 4, max_headers=3) == 431
    assert over(raw=[(b"a", b"b")] * 2, max_header_size=12) is None
    assert over(raw=[(b"a", b"b")] * 2, max_header_size=11) == 431


def test_what_is_pending_may_not_go_over_all_limits_together():
    assert over(pending=8192 + 32768 + 64) is None
    assert over(pending=8192 + 32768 + 65) == 431


@pytest.mark.parametrize("wrong", [{"header_timeout": 0}, {"max_headers": 0}, {"max_pipelined": 0}])
def test_a_policy_without_a_bound_that_keeps_slow_clients_out_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="must be"):
        HttpPolicy(**wrong)
