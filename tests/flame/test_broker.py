"""The message broker's seven methods: the document's examples, each parameter, each edge."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.flame.conftest import Federation

BOTH = """
import json, time
from flame import FlameCoreSDK
flame = FlameCoreSDK(silent=True)
me, others, aggregator = flame.get_id(), flame.get_participant_ids(), flame.get_aggregator_id()

def submit(value):
    flame.submit_final_result(json.dumps(value))
    flame.analysis_finished()

def refusal(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except Exception as error:
        return [type(error).__name__, str(error), isinstance(error, ValueError)]
    return None
"""


def _result(federation: Federation, data_node: str, aggregator: str, *more: str) -> Any:
    """What the aggregator submitted, after `data_node` ran at every other node."""
    bed = federation("node-a", *more, "node-c")
    scripts = dict.fromkeys(("node-a", *more), BOTH + data_node)
    run = bed.run(BOTH + aggregator, scripts=scripts)
    assert run.succeeded, (run.result, run.printed)
    return json.loads(run.texts[0])


def test_the_document_s_example_of_send_message(federation: Federation) -> None:
    """send_message(receivers=[aggregator_id], …): acknowledged without the script's help."""
    data_node = """
data_submission = {'id': 'x-1'}
sent = flame.send_message(receivers=[aggregator],
                          message_category='intermediate_results',
                          message={'result': data_submission['id']})
flame.send_message([aggregator], 'outcome', {'sent': sent})
"""
    aggregator = """
time.sleep(0.3)  # the script does nothing, yet the message is acknowledged
outcome = flame.await_messages(['node-a'], 'outcome')['node-a'][-1].body['sent']
body = flame.await_messages(['node-a'], 'intermediate_results')['node-a'][-1].body
submit([outcome, body['result']])
"""
    assert _result(federation, data_node, aggregator) == [[["node-c"], []], "x-1"]


def test_the_document_s_example_of_await_messages(federation: Federation) -> None:
    data_node = """
result = flame.await_messages(senders=[aggregator],
                              message_category='aggregated_results',
                              timeout=300)[aggregator][-1].body['result']
flame.send_message([aggregator], 'got', {'result': result})
"""
    aggregator = """
flame.send_message(others, 'aggregated_results', {'result': [1, 2.5, None, 'ü']})
submit(flame.await_messages(others, 'got')['node-a'][0].body['result'])
"""
    assert _result(federation, data_node, aggregator) == [1, 2.5, None, "ü"]


def test_the_document_s_example_of_responses(federation: Federation) -> None:
    data_node = """
for _ in range(2):
    asked = flame.await_messages([aggregator], 'intermediate_results')[aggregator][-1].body
    flame.send_message([aggregator], 'intermediate_results', {'result': asked['result'] + 1})
"""
    aggregator = """
found = []
for number in (10, 20):
    found.append(flame.send_message_and_wait_for_responses(
        receivers=others, message_category='intermediate_results',
        message={'result': number}, timeout=None)['node-a'][-1].body['result'])
submit(found)
"""
    assert _result(federation, data_node, aggregator) == [11, 21]


def test_the_meta_data_of_a_message(federation: Federation) -> None:
    data_node = """
flame.send_message([aggregator, 'node-b'] if me == 'node-a' else [aggregator], 'c', {'x': me})
"""
    aggregator = """
from datetime import datetime
found = {}
for sender in ('node-a', 'node-b'):
    message = flame.await_messages([sender], 'c')[sender][0]
    meta = dict(message.body['meta'])
    meta['times'] = (datetime.fromisoformat(meta.pop('arrived_at'))
                     >= datetime.fromisoformat(meta.pop('created_at')))
    meta['ids'] = isinstance(meta.pop('id'), str) and isinstance(meta.pop('akn_id'), str)
    found[sender] = [meta, message.recipients]
numbers = sorted(found[s][0].pop('number') for s in found)
submit([found, numbers])
"""
    found, numbers = _result(federation, data_node, aggregator, "node-b")
    meta = {"type": "incoming", "category": "c", "status": "read", "times": True, "ids": True}
    assert found == {
        "node-a": [{**meta, "sender": "node-a"}, ["node-c", "node-b"]],
        "node-b": [{**meta, "sender": "node-b"}, ["node-c"]],
    }
    assert numbers == [1, 2]


def test_reading_status_order_and_deletion(federation: Federation) -> None:
    """get, delete and clear: each status, min_age strictly older, the number that was deleted."""
    data_node = """
for number in range(6):
    flame.send_message([aggregator], 'odd' if number % 2 else 'even', {'n': number})
flame.send_message([aggregator], 'sent', {})
"""
    aggregator = """
def count(status):
    return [m.body.get('n') for m in flame.get_messages(status=status)]

flame.await_messages(others, 'sent')
steps = [count('unread'), count('read')]
even = flame.await_messages(others, 'even')['node-a']
steps += [[m.body['n'] for m in even], count('unread'), count('read')]
steps.append(flame.await_messages(others, 'even', timeout=0)['node-a'])
message_a_id, message_b_id = even[0].body['meta']['id'], even[1].body['meta']['id']
steps.append(flame.delete_messages(message_ids=[message_a_id, message_b_id, 'unknown']))
steps.append(flame.delete_messages(message_ids=[message_a_id, message_b_id]))
steps.append(count('read'))
steps.append(flame.clear_messages(status='read', min_age=60))
steps.append(flame.clear_messages(status='unread', min_age=0))
steps.append(flame.clear_messages(status='read', min_age=None))
steps += [count('unread'), count('read')]
submit(steps)
"""
    assert _result(federation, data_node, aggregator) == [
        [0, 1, 2, 3, 4, 5],
        [None],
        [0, 2, 4],
        [1, 3, 5],
        [0, 2, 4, None],
        None,
        2,
        0,
        [4, None],
        0,
        3,
        2,
        [],
        [],
    ]


def test_clear_all_deletes_read_and_unread(federation: Federation) -> None:
    data_node = (
        "flame.send_message([aggregator], 'a', {}); flame.send_message([aggregator], 'b', {})"
    )
    aggregator = """
flame.await_messages(others, 'b')
submit([flame.clear_messages('all'), len(flame.get_messages('unread')),
        len(flame.get_messages('read'))])
"""
    assert _result(federation, data_node, aggregator) == [2, 0, 0]


def test_waiting_for_one_message_by_its_id(federation: Federation) -> None:
    data_node = """
for number in range(3):
    flame.send_message([aggregator], 'c', {'n': number})
"""
    aggregator = """
while len(flame.get_messages()) < 3:
    time.sleep(0.01)
wanted = flame.get_messages()[1].id
found = flame.await_messages(others, 'c', message_id=wanted)['node-a']
missing = flame.await_messages(others, 'c', message_id='unknown', timeout=0.1)['node-a']
submit([[m.body['n'] for m in found], missing, [m.body['n'] for m in flame.get_messages()]])
"""
    assert _result(federation, data_node, aggregator) == [[1], None, [0, 2]]


def test_a_response_is_what_arrived_after_the_sending(federation: Federation) -> None:
    data_node = """
flame.send_message([aggregator], 'c', {'n': 'earlier'})
flame.await_messages([aggregator], 'c')
flame.send_message([aggregator], 'other', {'n': 'wrong category'})
flame.send_message([aggregator], 'c', {'n': 'later'})
"""
    aggregator = """
while not flame.get_messages():
    time.sleep(0.01)
found = flame.send_message_and_wait_for_responses(others, 'c', {}, timeout=10)['node-a']
submit([[m.body['n'] for m in found], [m.body['n'] for m in flame.get_messages()]])
"""
    assert _result(federation, data_node, aggregator) == [["later"], ["earlier", "wrong category"]]


def test_responses_that_do_not_come_are_none(federation: Federation) -> None:
    data_node = "flame.await_messages([aggregator], 'end')"
    aggregator = """
started = time.monotonic()
found = flame.send_message_and_wait_for_responses(others, 'c', {}, timeout=1)
seconds = time.monotonic() - started
flame.send_message(others, 'end', {})
submit([found, 0.9 < seconds < 3])
"""
    assert _result(federation, data_node, aggregator) == [{"node-a": None}, True]


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({"timeout": 1}, 1.0),
        ({"timeout": 5, "attempt_timeout": 1}, 1.0),
        ({"timeout": 9, "attempt_timeout": 1, "max_attempts": 2}, 2.0),
        ({"timeout": 1, "attempt_timeout": 1, "max_attempts": 3}, 1.0),
    ],
)
def test_timeouts_of_a_sending(
    federation: Federation, arguments: dict[str, int], seconds: float
) -> None:
    """`timeout` bounds all attempts together, `attempt_timeout` each of them."""
    bed = federation("node-a", "node-b", "node-c")
    script = (
        BOTH
        + f"""
if me == 'node-c':
    started = time.monotonic()
    sent = flame.send_message(['node-b', 'node-a'], 'c', {{}}, **{arguments!r})
    submit([sent, time.monotonic() - started])
else:
    flame.await_messages([aggregator], 'c')
"""
    )
    run = bed.run(script, absent=["node-b"], absent_after=60)
    assert run.succeeded, run.printed
    sent, took = json.loads(run.texts[0])
    assert sent == [["node-a"], ["node-b"]]
    assert seconds - 0.05 <= took < seconds + 1.0


def test_an_unbounded_sending_ends_when_its_receiver_is_gone(federation: Federation) -> None:
    """timeout=None waits for good, but never for a node that has ended."""
    data_node = "time.sleep(0.5); raise SystemExit(3)"
    aggregator = """
flame.await_messages(others, 'never')
submit([flame.send_message(others, 'c', {}), flame.await_messages(others, 'c')])
"""
    assert _result(federation, data_node, aggregator) == [[[], ["node-a"]], {"node-a": None}]


@pytest.mark.parametrize(
    ("payload", "kind", "says"),
    [
        ("{'meta': 1}", "InvalidPayload", "'meta'"),
        ("{'x': float('nan')}", "InvalidPayload", "NaN"),
        ("{'x': float('inf')}", "InvalidPayload", "send_intermediate_data"),
        ("[1, 2]", "InvalidPayload", "dictionary"),
        ("{'x': {1, 2}}", "InvalidPayload", "set"),
        ("{'x': b'1'}", "InvalidPayload", "bytes"),
        ("{('a', 'b'): 1}", "InvalidPayload", "tuple"),
        ("{'x': __import__('numpy').float32(1)}", "InvalidPayload", ".item()"),
        ("{'x': 'y' * 3_000_000}", "MessageTooLarge", "send_intermediate_data"),
    ],
)
def test_payloads_that_are_refused(payload: str, kind: str, says: str) -> None:
    from federated_analytics.flame.message import payload_text

    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        payload_text(eval(payload))
    assert type(refused.value).__name__ == kind


def test_refused_arguments_name_the_remedy(federation: Federation) -> None:
    data_node = "flame.await_messages([aggregator], 'never')"
    aggregator = """
submit([
    refusal(flame.send_message, ['node-x'], 'c', {}),
    refusal(flame.await_messages, ['node-x'], 'c'),
    refusal(flame.send_message, others, 'c', {'meta': {}}),
    refusal(flame.send_message, others, 'c', {'x': 'y' * 3_000_000}),
    refusal(flame.send_message, others, 5, {}),
    refusal(flame.send_message, others, 'c', {}, max_attempts=0),
    refusal(flame.send_message, others, 'c', {}, timeout=-1),
    refusal(flame.get_messages, 'all'),
    refusal(flame.clear_messages, 'old'),
])
"""
    refusals = _result(federation, data_node, aggregator)
    assert [r[0] for r in refusals] == [
        "UnknownNode",
        "UnknownNode",
        "InvalidPayload",
        "MessageTooLarge",
        *["InvalidArgument"] * 5,
    ]
    assert all(is_value_error for _, _, is_value_error in refusals)
    assert "node-a" in refusals[0][1]
    assert "'unread'" in refusals[7][1]


def test_two_megabytes_pass(federation: Federation) -> None:
    data_node = "flame.send_message([aggregator], 'c', {'x': 'y' * 1_990_000})"
    aggregator = "submit(len(flame.await_messages(others, 'c')['node-a'][0].body['x']))"
    assert _result(federation, data_node, aggregator) == 1_990_000


def test_messages_to_oneself_arrive(federation: Federation) -> None:
    data_node = "pass"
    aggregator = """
sent = flame.send_message([me], 'c', {'x': 1})
submit([sent, flame.await_messages([me], 'c')[me][0].body['x']])
"""
    assert _result(federation, data_node, aggregator) == [[["node-c"], []], 1]


def test_threads_of_a_script_wait_independently(federation: Federation) -> None:
    data_node = "flame.send_message([aggregator], me, {})"
    aggregator = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as pool:
    waits = [pool.submit(flame.await_messages, [n], n) for n in ('node-b', 'node-a')]
    submit([len(w.result()[n]) for w, n in zip(waits, ('node-b', 'node-a'))])
"""
    assert _result(federation, data_node, aggregator, "node-b") == [1, 1]
