"""Who calls: keys by their hashes, and what counts as this machine where there are none."""

from __future__ import annotations

import re

import pytest

from turnwire.errors import ApiError, ConfigurationError
from turnwire.gateway.caller import Caller, CallerKey, Callers, Unauthorized, is_loopback, key_hash, make_key

KEY, OTHER = "tw-" + "a" * 43, "tw-" + "b" * 43
LAPTOP, CI = CallerKey("laptop", key_hash(KEY)), CallerKey("ci", key_hash(OTHER))
LOCAL = Caller("local", "local")


def refused(callers: Callers, headers: dict[str, str], host: str | None = "127.0.0.1") -> str:
    with pytest.raises(Unauthorized) as caught:
        callers.identify(headers, host)
    return str(caught.value)


def test_a_key_is_256_random_bits_behind_a_prefix_and_its_hash_is_sha256() -> None:
    keys = {make_key() for _ in range(10)}
    assert len(keys) == 10
    assert all(re.fullmatch(r"tw-[\w-]{43}", key) for key in keys)
    assert key_hash("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"api-key": KEY},
        {"x-api-key": KEY},
        {"authorization": "Basic abc", "api-key": KEY},
        {"authorization": "Bearer ", "x-api-key": KEY},
        {"authorization": f"Bearer {KEY}", "api-key": OTHER, "x-api-key": "wrong"},
    ],
)
def test_a_key_comes_in_any_of_three_headers_and_the_first_counts(headers: dict[str, str]) -> None:
    tenant = LAPTOP.key_hash.removeprefix("sha256:")[:16]
    assert Callers([LAPTOP, CI]).identify(headers, "10.0.0.9") == Caller("laptop", tenant)


def test_each_key_has_a_tenant_of_its_own() -> None:
    callers = Callers([LAPTOP, CI])
    first, second = (callers.identify({"api-key": key}, None) for key in (KEY, OTHER))
    assert (first.name, second.name) == ("laptop", "ci")
    assert first.tenant != second.tenant


@pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"authorization": "Bearer"}, {"api-key": ""}])
def test_no_key_is_refused(headers: dict[str, str]) -> None:
    sentence = "no API key came with the request: send one as authorization: Bearer KEY"
    assert refused(Callers([LAPTOP]), headers) == sentence


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "a", LAPTOP.key_hash, "kÿ"])
def test_a_wrong_key_is_refused_and_not_repeated(key: str) -> None:
    sentence = "the API key is not one of this gateway's: check it, or ask for one"
    assert refused(Callers([LAPTOP, CI]), {"authorization": f"Bearer {key}"}) == sentence


def test_unauthorized_is_an_error_of_the_one_tree() -> None:
    assert issubclass(Unauthorized, ApiError)


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ({}, "127.0.0.1"),
        ({"authorization": "Bearer sk-anything"}, "127.0.0.1"),
        ({"host": "127.0.0.1:8088"}, "127.8.8.8"),
        ({"host": "localhost"}, "::1"),
        ({"host": "[::1]:8088"}, "::ffff:127.0.0.1"),
        ({"host": "gateway.localhost:8088", "origin": "http://localhost:5173"}, "127.0.0.1"),
        ({"host": "127.0.0.1:8088", "origin": "http://[::1]:5173"}, "127.0.0.1"),
    ],
)
def test_without_keys_programs_of_this_machine_are_served_as_one_tenant(
    headers: dict[str, str], host: str | None
) -> None:
    assert Callers([]).identify(headers, host) == LOCAL


@pytest.mark.parametrize(
    ("headers", "host", "reason"),
    [
        ({}, "10.0.0.9", "only this machine is served, not 10.0.0.9"),
        ({}, "2001:db8::1", "only this machine is served, not 2001:db8::1"),
        ({}, "::ffff:10.0.0.9", "only this machine is served, not ::ffff:10.0.0.9"),
        ({}, None, "only this machine is served, not an unknown one"),
        (
            {"x-forwarded-for": "127.0.0.1"},
            "127.0.0.1",
            "only this machine is served, and a proxy speaks for another (x-forwarded-for)",
        ),
        (
            {"forwarded": "for=10.0.0.9"},
            "127.0.0.1",
            "only this machine is served, and a proxy speaks for another (forwarded)",
        ),
        (
            {"host": "attacker.example:8088"},
            "127.0.0.1",
            "only this machine is served, by its own names, and host is 'attacker.example:8088'",
        ),
        (
            {"host": "localhost.attacker.example"},
            "127.0.0.1",
            "only this machine is served, by its own names, and host is 'localhost.attacker.example'",
        ),
        (
            {"host": "localhost", "origin": "https://attacker.example"},
            "127.0.0.1",
            "only this machine is served, by its own names, and origin is 'https://attacker.example'",
        ),
        (
            {"host": "localhost", "origin": "null"},
            "127.0.0.1",
            "only this machine is served, by its own names, and origin is 'null'",
        ),
        ({"host": ""}, "127.0.0.1", "only this machine is served, by its own names, and host is ''"),
        ({"host": "[::1"}, "127.0.0.1", "only this machine is served, by its own names, and host is '[::1'"),
    ],
)
def test_without_keys_nobody_else_is_served_and_no_web_page(
    headers: dict[str, str], host: str | None, reason: str
) -> None:
    advice = "this gateway has no keys. Make one with `turnwire key`, configure its hash, and send the key"
    assert refused(Callers([]), headers, host) == f"{reason}: {advice}"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("", KEY, "caller '' needs a name that can be printed"),
        ("a\nb", KEY, "caller 'a\\nb' needs a name that can be printed"),
        ("a", KEY, "caller 'a': expected sha256: and 64 hexadecimal digits, as `turnwire key` gives them"),
        (
            "a",
            f"{LAPTOP.key_hash}0",
            "caller 'a': expected sha256: and 64 hexadecimal digits, as `turnwire key` gives them",
        ),
    ],
)
def test_a_caller_is_a_name_and_a_hash_and_what_stands_for_one_is_not_repeated(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CallerKey(name, value)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "a.localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example", "")),
    ],
)
def test_loopback_is_what_can_only_mean_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
