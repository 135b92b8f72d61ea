"""A webhook that cannot be sent is refused when the run is asked for, not when it has ended."""

import pytest
from tests.support.webhooks import KEY

from goagents.errors import Invalid
from goagents.webhooks.http import HttpWebhooks


def webhooks(*secrets: str, allowed: tuple[str, ...] = ()) -> HttpWebhooks:
    return HttpWebhooks(secrets, timeout=1, allowed_addresses=allowed)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/goagents?token=abc",
        "http://hooks.example.com:8080/",
        "HTTPS://8.8.8.8/",
        "https://[2606:4700::1111]/hook",
        "https://bücher.example/hook#fragment",
    ],
)
def test_a_public_url_is_fine(url: str):
    webhooks(KEY).check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://hooks.example.com/", "only http and https"),
        ("mailto:a@example.com", "only http and https"),
        ("hooks.example.com/x", "only http and https"),
        ("", "only http and https"),
        ("https://user:t0psecret@hooks.example.com/", "credentials"),
        ("https://t0psecret@hooks.example.com/", "credentials"),
        ("https://", "names no host"),
        ("https://[::1/", "no URL"),
        ("https://hooks.example.com:99999/", "no URL"),
        ("https://\ud800.example/", "no URL"),
        ("http://127.0.0.1:8080/?t0psecret", "is a loopback address; to permit it, list it under `allow.addresses`"),
        ("http://10.0.0.1/t0psecret", "is a private address"),
        ("http://[::ffff:192.168.0.1]/", "is a private address"),
        ("http://169.254.169.254/latest", "is a cloud metadata address"),
        ("http://metadata.google.internal/", "is a cloud metadata service"),
        ("http://localhost/", "is this machine itself"),
        ("http://2130706433/", "four plain decimal numbers"),
    ],
)
def test_another_one_is_refused_with_the_place_and_the_reason(url: str, reason: str):
    with pytest.raises(Invalid) as caught:
        webhooks(KEY).check(url)
    error = caught.value
    assert error.status == 422
    assert [e.path for e in error.errors] == ["webhook.url"]
    assert reason in error.errors[0].message
    assert reason in error.detail
    assert "t0psecret" not in str(error.problem())


def test_what_the_configuration_allows_is_fine():
    webhooks(KEY, allowed=("10.0.0.0/8", "localhost:9000")).check("http://10.1.2.3/")
    webhooks(KEY, allowed=("10.0.0.0/8", "localhost:9000")).check("http://localhost:9000/")


def test_without_a_key_the_setting_is_named():
    with pytest.raises(Invalid, match=r"`webhooks\.secrets`") as caught:
        webhooks().check("https://hooks.example.com/")
    assert caught.value.errors[0].path == "webhook.url"
