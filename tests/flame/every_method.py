"""One analysis that calls every method of the Core SDK, with each of its parameters.

Each call that matters is seen under a name; the data nodes send what they saw, and the aggregator
submits all of it. `tests/flame/test_methods_over_flower.py` says what each should have seen.
"""

from __future__ import annotations

SCRIPT = r'''
import asyncio
import json
import time

from flame import FlameCoreSDK

flame = FlameCoreSDK(aggregator_requires_data=False, silent=True)
me, role, partners = flame.get_id(), flame.get_role(), flame.get_participant_ids()
LIMIT = 400
saw = {}


def see(name, call, *arguments, **named):
    """What a call returned, or the code of its error."""
    try:
        value = call(*arguments, **named)
    except Exception as error:
        value = ["refused", getattr(error, "code", type(error).__name__)]
    saw[name] = value
    print(time.strftime("%X"), name, flush=True)
    return value


def took(name, call, *arguments, **named):
    started = time.monotonic()
    see(name, call, *arguments, **named)
    saw[name + " took"] = time.monotonic() - started


def bodies(messages):
    """Without what differs from run to run."""
    return {n: None if m is None else [{k: v for k, v in one.body.items() if k != "meta"}
            for one in m] for n, m in messages.items()}


def who():
    for name in ("id", "role", "aggregator_id", "participants", "participant_ids", "analysis_id",
                 "project_id", "parameters", "progress"):
        see(name, getattr(flame, "get_" + name))


def logs():
    flame.declare_log_types({"custom": "alert", "wrong": "loud"})
    for type in ("info", "normal", "notice", "debug", "warning", "alert", "emergency", "error",
                 "critical-error", "custom", "undeclared"):
        flame.flame_log("of type " + type, log_type=type)
    flame.flame_log(5)
    flame.flame_log(b"bytes", sep="", end="\n", file=None)
    flame.flame_log("awaiting...", halt_submission=True)
    flame.flame_log("success", suppress_head=True)


def progress():
    flame.set_progress(10.9)
    see("progress truncated", flame.get_progress)
    flame.set_progress(5)
    flame.set_progress(101)
    see("progress kept", flame.get_progress)


def local_data():
    saved = see("local saved", flame.save_intermediate_data, {"x": [1, 2.5]}, "local")
    see("local read", flame.get_intermediate_data, "local", id=saved["id"])
    for value in (1, 2, 3):
        flame.save_intermediate_data(value, location="local", tag="result-a")
    flame.save_intermediate_data("other", location="local", tag="other")
    see("tag all", flame.get_intermediate_data, "local", tag="result-a")
    for option in ("first", "last"):
        see("tag " + option, flame.get_intermediate_data, "local", tag="result-a",
            tag_option=option)
        see("no tag " + option, flame.get_intermediate_data, "local", tag="none", tag_option=option)
    see("no tag all", flame.get_intermediate_data, "local", tag="none")
    see("tags", flame.get_local_tags)
    see("tags filtered", flame.get_local_tags, filter="result")
    see("wrong tag", flame.save_intermediate_data, 1, "local", tag="Not A Tag")
    see("tag on the hub", flame.save_intermediate_data, 1, "global", tag="result-a")
    see("local for others", flame.save_intermediate_data, 1, "local", remote_node_ids=partners)
    see("guessed local id", flame.get_intermediate_data, "local", id="0" * 32)
    see("guessed global id", flame.get_intermediate_data, "global", id="0" * 32)


def sources():
    see("sources", flame.get_data_sources)
    see("fhir", flame.get_fhir_data, ["Patient?_summary=count", "Broken/html"])
    see("fhir none", flame.get_fhir_data, [])
    see("fhir null", flame.get_fhir_data, None)
    see("s3", flame.get_s3_data, ["cohort.csv"])
    see("s3 all", flame.get_s3_data)
    see("s3 outside", flame.get_s3_data, ["../secret.txt"])
    see("no client", flame.get_data_client, "nothing")

    async def asked(id, path):
        async with flame.get_data_client(data_id=id) as client:
            return (await client.get(path)).json()

    see("client", lambda: asyncio.run(asked("records", "Patient?_summary=count")))


def refusals(peer):
    see("meta", flame.send_message, [peer], "c", {"meta": 1})
    see("3 MB", flame.send_message, [peer], "c", {"x": "x" * 3_000_000})
    see("NaN", flame.send_message, [peer], "c", {"x": float("nan")})
    see("no dictionary", flame.send_message, [peer], "c", [1])
    see("unknown receiver", flame.send_message, ["nobody"], "c", {})
    see("an object", flame.send_intermediate_data, [peer], object())
    if role == "default":
        see("submitted by a data node", flame.submit_final_result, 1)


def at_data_node():
    aggregator = flame.get_aggregator_id()
    [peer] = [node for node in partners if node != aggregator]
    local_data()
    sources()
    refusals(aggregator)
    see("ready", flame.ready_check, nodes="all", attempt_interval=2, timeout=LIMIT)
    see("ready one", flame.ready_check, [aggregator])

    # messages: sent, acknowledged, read, deleted
    see("sent", flame.send_message, receivers=[peer, aggregator], message_category="hello",
        message={"from": me}, max_attempts=1, timeout=None, attempt_timeout=10)
    took("impatient", flame.send_message, [peer], "impatient", {"n": 1}, max_attempts=2,
         timeout=1, attempt_timeout=1)
    got = flame.await_messages([peer], "hello", timeout=LIMIT)
    saw["hello"] = bodies(got)
    saw["hello meta"] = {k: str(v) for k, v in got[peer][0].body["meta"].items()}
    saw["hello recipients"] = got[peer][0].recipients
    id = got[peer][0].body["meta"]["id"]
    saw["read"] = [m.body["meta"]["id"] == id for m in flame.get_messages(status="read")]
    see("deleted", flame.delete_messages, [id, "unknown"])
    see("deleted again", flame.delete_messages, message_ids=[id])
    saw["impatient arrived"] = bodies(flame.await_messages([peer], "impatient", timeout=LIMIT))
    saw["read again"] = bodies(flame.await_messages([peer], "impatient", timeout=0))
    took("nothing came", lambda: bodies(flame.await_messages([peer], "never", timeout=1)))

    # a question, and one that nobody answers
    answers = flame.send_message_and_wait_for_responses(
        receivers=[aggregator], message_category="question", message={"n": 20}, max_attempts=1,
        timeout=None, attempt_timeout=10)
    saw["answer"] = bodies(answers)
    took("no answer", lambda: bodies(flame.send_message_and_wait_for_responses(
        [peer], "of " + me, {}, max_attempts=1, timeout=2, attempt_timeout=1)))

    # by its id: the second of two
    flame.send_message([peer], "two", {"n": 1}, timeout=0)
    flame.send_message([peer], "two", {"n": 2})
    end = time.monotonic() + LIMIT
    two = []
    while len(two) < 2 and time.monotonic() < end:
        two = [m for m in flame.get_messages() if m.body["meta"]["category"] == "two"]
        time.sleep(0.2)
    chosen = two[1].body["meta"]["id"]
    saw["by id"] = bodies(flame.await_messages([peer], "two", message_id=chosen, timeout=5))
    saw["left unread"] = [m.body["n"] for m in flame.get_messages("unread")
                          if m.body["meta"]["category"] == "two"]

    # data on the hub: for all, for some, and for others
    plain = see("global saved", flame.save_intermediate_data, data={"of": me}, location="global")
    sealed = see("sealed saved", flame.save_intermediate_data, [me, "sealed"], "global",
                 remote_node_ids=[peer, aggregator])
    flame.send_message([peer, aggregator], "ids", {"plain": plain["id"],
        "sealed": {n: one["id"] for n, one in sealed.items()}})
    ids = flame.await_messages([peer], "ids", timeout=LIMIT)[peer][0].body
    see("global read", flame.get_intermediate_data, location="global", id=ids["plain"])
    see("sealed read", flame.get_intermediate_data, "global", id=ids["sealed"][me],
        sender_node_id=peer)
    see("sealed without a sender", flame.get_intermediate_data, "global", id=ids["sealed"][me])
    see("sealed from another", flame.get_intermediate_data, "global", id=ids["sealed"][me],
        sender_node_id=aggregator)
    see("another's object", flame.get_intermediate_data, "global", id=ids["sealed"][aggregator],
        sender_node_id=peer)

    import numpy
    import pandas
    array = numpy.arange(250_000, dtype=numpy.float64)
    saw["sent data"] = flame.send_intermediate_data([peer, aggregator], {"array": array,
        "frame": pandas.DataFrame({"n": [1, 2]}), "bytes": b"\x00\xff"})
    saw["sent plain"] = flame.send_intermediate_data(receivers=[peer], data={"from": me},
        message_category="plain", max_attempts=2, timeout=LIMIT, attempt_timeout=30,
        encrypted=False)
    data = flame.await_intermediate_data(senders=[peer], timeout=LIMIT)[peer]
    saw["data"] = [float(data["array"].sum()), str(data["array"].dtype),
                   data["frame"]["n"].tolist(), list(data["bytes"])]
    see("plain data", flame.await_intermediate_data, [peer], message_category="plain",
        timeout=LIMIT)
    took("no data", flame.await_intermediate_data, [peer], "never", 1)

    # clearing: young ones stay, read ones go, then all
    see("cleared old", flame.clear_messages, status="all", min_age=3600)
    unread = len(flame.get_messages("unread"))
    saw["cleared read"] = flame.clear_messages() > 0 and not flame.get_messages("read")
    saw["cleared unread"] = flame.clear_messages(status="unread") == unread > 0
    see("cleared all", flame.clear_messages, "all", min_age=None)
    flame.send_message([aggregator], "saw", {"saw": saw})


def at_aggregator():
    refusals(partners[0])
    see("ready", flame.ready_check, attempt_interval=2, timeout=LIMIT)
    for node in partners:
        asked = flame.await_messages([node], "question", timeout=LIMIT)[node][0]
        flame.send_message([node], "question", {"n": asked.body["n"] + 1}, timeout=0)
    ids = flame.await_messages(partners, "ids", timeout=LIMIT)
    saw["sealed read"] = [flame.get_intermediate_data("global", id=ids[n][0].body["sealed"][me],
                          sender_node_id=n) for n in partners]
    data = flame.await_intermediate_data(partners, timeout=LIMIT)
    saw["data"] = {n: float(one["array"].sum()) for n, one in data.items()}
    reports = flame.await_messages(partners, "saw", timeout=LIMIT)
    found = {n: m[-1].body["saw"] if m else None for n, m in reports.items()}
    see("submitted bytes", flame.submit_final_result, b"\x00bytes", output_type="bytes")
    see("submitted pickle", flame.submit_final_result, {"a": [1]}, output_type="pickle")
    see("submitted noise", flame.submit_final_result, 100.0,
        local_dp={"epsilon": 1.0, "sensitivity": 1.0})
    see("noise beyond the budget", flame.submit_final_result, 100.0,
        local_dp={"epsilon": 1.0, "sensitivity": 1.0})
    see("noise without numbers", flame.submit_final_result, "x",
        local_dp={"epsilon": 1.0, "sensitivity": 1.0})
    flame.submit_final_result(json.dumps({**found, me: saw}))
    assert flame.analysis_finished() and flame.analysis_finished()


who()
logs()
progress()
at_aggregator() if role == "aggregator" else at_data_node()
'''
