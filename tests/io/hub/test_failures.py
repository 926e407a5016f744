"""Every way in which a download fails has a sentence of its own, and no secret is in any of them.

Long form, with failures that take the client's time to become one:
pytest -m full tests/checkpoint/hub
"""

from __future__ import annotations

import pytest

from tests.io import hub_server
from tests.io.hub.conftest import TOKEN, WEIGHTS
from tests.io.hub_server import COMMIT

NOBODY = "http://127.0.0.1:9"
UNKNOWN = "http://no-such-host.invalid"

# The repository or the endpoint says how it fails: words of the sentence, words of the hint.
KINDS = {
    "401": ("owner/token", "asks for a valid token (status 401)", "Set HF_TOKEN"),
    "403 gated": ("owner/gated", "is gated", "Ask for access on {endpoint}/owner/gated"),
    "403": ("owner/forbidden", "refused access (status 403)", "may read owner/forbidden"),
    "404 repository": ("owner/missing", "no model owner/missing", "Check the spelling"),
    "401 private": ("owner/private", "or it is private (status 401)", "HF_TOKEN"),
    "404 revision": ("owner/revision", "no revision 'main' (status 404)", "a branch, a tag"),
    "429": ("owner/busy", "too many requests (status 429)", "Try again in 7 seconds"),
    "500": ("owner/broken", "a fault of its own (status 500)", "Try again later"),
    "502": ("owner/gateway", "down or overloaded (status 502)", "HF_HUB_OFFLINE=1"),
    "503": ("owner/down", "down or overloaded (status 503)", "HF_HUB_OFFLINE=1"),
    "418": ("owner/teapot", "answered with status 418", "Try again later"),
    "a login page": ("owner/portal", "not one of a Hub", "a login page or a proxy"),
    "silence": ("owner/silent", "did not answer in time", "HF_HUB_ETAG_TIMEOUT"),
    "DNS": (UNKNOWN, "name of this host is not known (DNS)", "Check the network"),
    "refused": (NOBODY, "refused the connection", "Check the network"),
    "TLS": ("https:", "could not prove who it is (TLS)", "SSL_CERT_FILE"),
}
# With these the sentence begins with the folder that may have been meant.
FOLDER = ("404 repository", "401 private", "silence", "DNS", "refused", "TLS")


@pytest.fixture
def fail(server, fetch):
    """The repository and the endpoint asked, and what came of it."""

    def fail(what: str):
        source, endpoint = "owner/tiny", server.endpoint
        if what == "https:":
            endpoint = endpoint.replace("http:", "https:")
        elif what.startswith("http"):
            endpoint = what
        else:
            source = what
        return source, endpoint, fetch(source, HF_ENDPOINT=endpoint, HF_HUB_ETAG_TIMEOUT="1")

    return fail


@pytest.mark.parametrize("kind", KINDS)
def test_each_failure_has_its_own_sentence(fail, kind):
    what, sentence, hint = KINDS[kind]
    source, endpoint, found = fail(what)
    assert found["error"] == "HubError" and found["code"] == 1
    begin = f"There is no folder '{source}' here, and " if kind in FOLDER else ""
    begin += f"{source} at revision 'main' could not be fetched from {endpoint}: "
    assert found["text"].startswith(begin), found["text"]
    assert sentence in found["text"]
    assert hint.format(endpoint=endpoint) in found["hint"]
    assert "Traceback" not in found["log"]
    others = [words for words, _ in (KINDS[other][1:] for other in KINDS if other != kind)]
    assert not [words for words in others if words in found["text"]]


AT_A_FILE = {
    "401": ("token", "asks for a valid token"),
    "403 gated": ("gated", "is gated"),
    "403": ("forbidden", "refused access"),
    "404 file": ("entry", "the file is in the list, but not there (status 404)"),
    "418": ("teapot", "status 418"),
    "500": ("broken", "a fault of its own"),
    "503": ("down", "down or overloaded"),
}


@pytest.mark.parametrize("kind", AT_A_FILE)
@pytest.mark.parametrize("place", ["/resolve", "/large"])
def test_a_file_that_fails_is_named(server, fetch, place, kind):
    """When its length is asked for at the Hub, or its content on another host."""
    fault, words = AT_A_FILE[kind]
    folder = f"/resolve/{COMMIT}" if place == "/resolve" else place
    server.answers = {f"{folder}/model.safetensors": fault}
    host = server.endpoint if place == "/resolve" else server.endpoint.replace("127.0.0.1", "localhost")
    found = fetch()
    assert found["error"] == "HubError" and words in found["text"], found
    begin = f"model.safetensors of owner/tiny at revision 'main' could not be fetched from {host}: "
    assert found["text"].startswith(begin), found["text"]


def test_a_login_page_for_a_file(server, fetch):
    server.answers = {"/config.json": "portal"}
    found = fetch()
    assert "config.json of owner/tiny" in found["text"] and "not one of a Hub" in found["text"]


@pytest.mark.parametrize(("store", "words"), [(NOBODY, "refused the connection"), (UNKNOWN, "(DNS)")])
def test_the_host_that_failed_is_named(server, fetch, store, words):
    """It need not be the Hub: large files are kept elsewhere."""
    server.store = store
    found = fetch()
    assert f"could not be fetched from {store}: " in found["text"] and words in found["text"]


@pytest.mark.full
def test_a_file_that_never_comes(server, fetch):
    server.answers = {"/large/model.safetensors": "silent"}
    found = fetch(HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert "did not answer in time" in found["text"] and "model.safetensors of" in found["text"]


def test_a_hub_that_waits_is_not_waited_for(server, fetch):
    server.answers = {"/revision/main": "silent"}
    found = fetch(HF_HUB_ETAG_TIMEOUT="1")
    assert "did not answer in time" in found["text"] and found["seconds"] < 10 * 1.3


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_missing_is_called_by_its_kind(fetch, kind):
    text = fetch("owner/missing", kind=kind)["text"]
    assert {"model": "no model owner", "dataset": "no data set owner"}[kind] in text


def test_an_odd_wait_is_not_repeated(fetch, monkeypatch):
    """Headers are text of the server's, in which anything can be."""
    monkeypatch.setitem(hub_server.ANSWERS, "busy", (429, {"Retry-After": f"never, {TOKEN}"}))
    assert "Try again in a few minutes" in fetch("owner/busy")["text"]


# Secrets (the `hub` fixture looks for the token in all that was printed and found)


@pytest.mark.parametrize("fault", ["token", "busy", "forbidden", "portal", "private"])
def test_no_token_with_debug(hub, fault):
    """The server repeats the token in its text and in its headers."""
    found = hub(["command", "predict", f"owner/{fault}", "a text", "--debug"], HF_HUB_VERBOSITY="debug")[0]
    assert found["code"] == 1
    assert "Traceback" in found["log"] and "HubError" in found["log"]
    assert "bad token ..." in found["log"]  # it was there to be repeated


def test_no_token_in_an_endpoint(server, hub):
    endpoint = server.endpoint.replace("//", f"//user:{TOKEN}@")
    found = hub(["command", "predict", "owner/tiny", "a text", "--debug"], HF_ENDPOINT=endpoint)[0]
    assert found["code"] == 1 and "HF_ENDPOINT holds a user name or a password" in found["log"]
    assert not server.requests


def test_no_secret_of_an_address_that_the_server_names(server, fetch):
    server.store = f"http://user:{TOKEN}@127.0.0.1:9"
    found = fetch()
    assert f"could not be fetched from {NOBODY}: it refused the connection" in found["text"]
    assert "http://...@127.0.0.1:9/large/model.safetensors" in found["log"]


def test_no_signature_of_an_address(server, fetch):
    server.store = f"{NOBODY}/x?Signature={TOKEN}&path="
    assert "http://127.0.0.1:9/x?..." in fetch()["log"]


def test_the_cache_stands_in_for_a_hub_that_cannot_be_reached_and_says_so(fetch):
    fetch()
    for source in (NOBODY, UNKNOWN):
        found = fetch(HF_ENDPOINT=source)
        assert list(found["files"]) == list(WEIGHTS[:2])
        assert "could not be fetched" in found["log"]
        assert "The copy in the cache is used" in found["log"]


def test_the_cache_does_not_stand_in_for_a_hub_that_says_no(server, fetch):
    fetch()
    server.answers = {"/revision/main": "gated"}
    assert "is gated" in fetch()["text"]
