"""Keys are read strictly and never shown; signatures are those of the specification."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from tests.support.webhooks import KEY, NEW_KEY

from goagents.errors import ConfigurationError
from goagents.spec.load import load_text
from goagents.webhooks.http import HttpWebhooks
from goagents.webhooks.http_signing import Signer


def secret(length: int) -> str:
    return f"whsec_{base64.b64encode(bytes(range(length))).decode()}"


def test_the_signature_is_the_one_that_the_specifications_libraries_test():
    headers = Signer([KEY]).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(key=st.binary(min_size=24, max_size=64), value=st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_the_key_and_the_body_the_library_believes_it(key: bytes, value: str):
    text = f"whsec_{base64.b64encode(key).decode()}"
    body = json.dumps(value, ensure_ascii=False).encode()
    headers = Signer([NEW_KEY, text]).headers("msg_1", int(datetime.now(UTC).timestamp()), body)
    assert Webhook(text).verify(body, headers) == value


@pytest.mark.parametrize("text", [secret(24), secret(64), secret(25), secret(25).rstrip("="), KEY])
def test_a_key_of_24_to_64_bytes_is_taken(text: str):
    assert Signer([text]).ready


def test_without_keys_there_is_nothing_to_sign_with():
    assert not Signer([]).ready


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "whsec_",
        KEY.removeprefix("whsec_"),
        KEY.upper(),
        secret(23),
        secret(65),
        KEY + "\n",
        " " + KEY,
        KEY[:-4] + "-_-_",
        KEY[:-1],
        KEY + "====",
        "whsec_" + "ä" * 32,
        "whsk_" + KEY.removeprefix("whsec_"),
        "${WEBHOOK_KEY}",
    ],
)
def test_what_is_no_key_is_named_by_its_place_and_not_shown(wrong: str):
    with pytest.raises(ConfigurationError) as caught:
        HttpWebhooks([KEY, wrong, NEW_KEY, wrong], timeout=1, allowed_addresses=())
    error = caught.value
    assert [e.path for e in error.errors] == ["webhooks.secrets.1", "webhooks.secrets.3"]
    shown = f"{error} {error.detail} {error.problem()} {error!r}"
    assert "openssl rand" in shown
    assert error.__context__ is None
    assert len(wrong) < 8 or wrong not in shown


def test_an_unreadable_allowed_address_is_an_error_of_the_configuration():
    with pytest.raises(ConfigurationError, match=r"allow\.addresses\.0"):
        HttpWebhooks([KEY], timeout=1, allowed_addresses=("not an address",))


def test_nothing_shows_a_key():
    signer, webhooks = Signer([KEY]), HttpWebhooks([KEY], timeout=1, allowed_addresses=())
    assert KEY[6:] not in f"{signer!r}{webhooks!r}"


def test_what_is_no_key_is_found_as_the_configuration_loads():
    wrong = KEY[:-1]
    with pytest.raises(ConfigurationError) as caught:
        load_text("webhooks:\n  secrets:\n    - ${OLD}\n    - ${NEW}\n", "c.yaml", environ={"OLD": wrong, "NEW": KEY})
    (error,) = caught.value.errors
    assert (error.path, error.line) == ("webhooks.secrets.0", 3)
    assert "openssl rand" in str(error)
    assert wrong not in f"{caught.value!r}{caught.value.problem()}"
    loaded = load_text("webhooks: {secrets: ['${NEW}']}\n", "c.yaml", environ={"NEW": KEY})
    assert loaded.config.webhooks.secrets[0].get_secret_value() == KEY
