"""Job ids of events are what RFC 4122 says, however fast they are made."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.admission import job_id_of

NAMESPACE = uuid.UUID("9e0d4c0e-6f0e-5b0a-9d0c-6a6f656c6a63")
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, texts)
def test_the_id_of_a_job_is_a_uuid_of_version_5_over_event_and_handler(event_id, handler):
    assert str(uuid.uuid5(NAMESPACE, f"{event_id}\n{handler}")) == job_id_of(event_id, handler)
