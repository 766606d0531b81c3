"""A script as the operator sees it, before it runs at her site."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from federated_analytics.code_digest import code_digest
from federated_analytics.flame.site_budget import cost_in_words
from federated_analytics.privacy.asked import Asked

if TYPE_CHECKING:
    from federated_analytics.flame.order import ScriptOrder
    from federated_analytics.guarded_answer import Asker
    from federated_analytics.guarded_site import GuardedSite


def for_approval(order: ScriptOrder, asker: Asker, guarded: GuardedSite, spent: float) -> Asked:
    """Its text, its parameters, what it may send, and what it costs.

    Args:
        spent: epsilon that the project has spent here.
    """
    policy = guarded.site.policy
    others = ", ".join(n for n in order.nodes if n != guarded.site.name)
    parameters = json.dumps(dict(order.parameters), sort_keys=True, ensure_ascii=False)
    if policy.free_exchange:
        leaves = (
            f"Messages of its own: yes, up to {policy.exchange_bytes:,} bytes a run.\n"
            "Messages, objects, logs and progress: no rule looks at them. Every byte that leaves "
            "is in the audit."
        )
    else:
        leaves = (
            "Messages of its own: no.\n"
            "Releases that the policy's rules have made (flame.omop), and where the script stands; "
            "its own messages, objects, logs and results stay here."
        )
    return Asked(
        study_name=order.name,
        study=order.to_json(),
        digest=order.digest,
        analyst=asker.name,
        project=asker.project,
        question=f"A script runs here, together with {others}.\nParameters: {parameters}\n"
        f"It is ended after {order.limit:g} s.\n\n{order.script}",
        sql="",
        leaves=leaves,
        cost=cost_in_words(order, policy, spent),
        # Of her code and of the site's own: what runs is both.
        code_digest=hashlib.sha256(f"{asker.code}/{code_digest()}".encode()).hexdigest(),
        asked_at=time.time(),
    )
