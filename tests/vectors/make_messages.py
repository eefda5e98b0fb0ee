"""Write the vectors that freeze the bytes M which people sign: `python -m tests.vectors.make_messages`.

Running it must change nothing. A difference means that signatures given yesterday no longer verify.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from keyturn.core.terms import Digest
from keyturn.wire import approval, leaf, people_statements
from keyturn.wire.approval import ApprovalTerms
from keyturn.wire.people_statements import AuditTerms, AwarenessTerms

HERE = Path(__file__).resolve().parent
DOSSIER, GENESIS, POLICY, ARTIFACT = (Digest("sha256:" + digit * 64) for digit in "1a7e")

RELEASE = ApprovalTerms(
    dossier=DOSSIER,
    decision="approve",
    gate="release",
    level=1,
    artifact=ARTIFACT,
    lineage="connect4",
    genesis=GENESIS,
    evidence_index=41,
    policy=POLICY,
    policy_version=1,
    person="ada",
    role="safety",
    scope="node-1",
    not_before=1_790_000_000_000,
    not_after=1_790_003_600_000,
    nonce="3f1c",
    origin="connect4.example/log",
    reason="",
)
TERMS = {
    "approval/release": RELEASE,
    "approval/refusal-with-unicode-reason": dataclasses.replace(
        RELEASE, decision="refuse", person="Zoë", reason='drift from the founder: 0.31 > 0.10\n"see" \\ é € 😀'
    ),
    "approval/amend-widest-numbers": dataclasses.replace(
        RELEASE,
        gate="amend",
        level=0,
        artifact="",
        evidence_index=0,
        policy_version=2**53 - 1,
        not_before=0,
        not_after=2**53 - 1,
        scope="",
    ),
    "people/audit": AuditTerms(
        root=ARTIFACT,
        lineage="connect4",
        genesis=GENESIS,
        policy=POLICY,
        evidence_index=57,
        signed_at=1_790_000_400_000,
        person="ada",
        role="safety",
        nonce="77",
        origin="connect4.example/log",
        reason="looked at 40 games; it leaves the centre",
    ),
    "people/awareness": AwarenessTerms(
        genesis=GENESIS,
        policy=POLICY,
        incident="in_1",
        moment="aware",
        moment_at=1_790_000_000_000,
        signed_at=1_790_000_400_000,
        person="ada",
        nonce="78",
        origin="connect4.example/log",
        reason="",
    ),
}
ADOPTION: dict[str, Any] = {
    "genesis": GENESIS,
    "policy": POLICY,
    "version": 2,
    "dossier": DOSSIER,
    "person": "dot",
}
FORMS = {
    AuditTerms: people_statements.AUDIT,
    AwarenessTerms: people_statements.AWARENESS,
}


def vectors() -> dict[str, str]:
    """The text of every vector by its name."""
    made = {}
    for name, terms in TERMS.items():
        message = FORMS[type(terms)].message(terms) if type(terms) in FORMS else approval.message(terms)
        vector = {"terms": dataclasses.asdict(terms), "message_hex": message.hex()}
        made[name] = json.dumps(vector, indent=2, ensure_ascii=False) + "\n"
    message = leaf.adoption_message(**ADOPTION)
    made["people/adoption"] = json.dumps({"terms": ADOPTION, "message_hex": message.hex()}, indent=2) + "\n"
    return made


if __name__ == "__main__":
    for name, text in vectors().items():
        (HERE / f"{name}.json").write_text(text, encoding="utf-8")
