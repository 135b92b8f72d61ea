"""A session's messages as the model gets them: whole turns, starting with a user message."""

from collections.abc import Sequence

from goagents.messages import MESSAGE, Message
from goagents.records import MessageRecord
from goagents.store.base import Document

HISTORY_LIMIT = 200  # messages read back from a session


def conversation(newest_first: Sequence[Document]) -> tuple[Message, ...]:
    """Turn a descending page of message documents into a conversation.

    A page may start in the middle of a turn, between a tool call and its result: what precedes the first user
    message is left out.
    """
    messages = [MESSAGE.validate_python(MessageRecord.of(document.data).message) for document in reversed(newest_first)]
    start = next((i for i, message in enumerate(messages) if message.role == "user"), len(messages))
    return tuple(messages[start:])
