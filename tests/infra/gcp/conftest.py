"""A project of Google Cloud on loopback, one for each file of tests."""

from collections.abc import Iterator

import pytest
from tests.support.google_api import GoogleApi
from tests.support.google_project import google_project


@pytest.fixture(scope="module")
def google_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleApi]:
    with google_project(tmp_path_factory.mktemp("google")) as google:
        yield google
        assert google.cloud.unknown == [], "gcloud asked for what the project on loopback does not know"
