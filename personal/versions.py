"""Personal versions in the database: kept, switched and removed, each in one transaction."""

from __future__ import annotations

import json

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, undefer

from generation.adapter_files import CONFIG_FILE, TENSORS_FILE, Lora, read_lora
from personal.tasks import Trained
from retrieval import jobs
from retrieval.personal_examples import PersonalMaterial
from storage.database import note_deletion
from storage.example_tables import (
    PersonalKind,
    PersonalQuestion,
    PersonalSource,
    PersonalState,
    PersonalVersion,
)
from storage.node_tables import ItemState, Job, JobItem, JobKind

MOST_VERSIONS = 10
"""Of a kind that an assistant keeps; the oldest that is not served goes first."""


def list_all(session: Session, assistant_id: int) -> list[PersonalVersion]:
    """The versions of an assistant, newest first, without their parameters."""
    own = select(PersonalVersion).where(PersonalVersion.assistant_id == assistant_id)
    return list(session.scalars(own.order_by(PersonalVersion.id.desc())))


def served(session: Session) -> list[PersonalVersion]:
    """What is to be in service, of all assistants, without parameters."""
    own = select(PersonalVersion).where(PersonalVersion.state == PersonalState.SERVED)
    return list(session.scalars(own.order_by(PersonalVersion.id)))


def with_parameters(session: Session, version_id: int) -> PersonalVersion | None:
    """A version that is to be in service; None if it is so no longer."""
    own = select(PersonalVersion).where(
        PersonalVersion.id == version_id, PersonalVersion.state == PersonalState.SERVED
    )
    return session.scalars(own.options(undefer(PersonalVersion.parameters))).one_or_none()


def lora_of(version: PersonalVersion) -> Lora:
    """The adapter of a generator's version that has its parameters. Raises ValueError."""
    config = json.dumps(version.config["adapter_config"]).encode()
    return read_lora({CONFIG_FILE: config, TENSORS_FILE: version.parameters})


def newest(session: Session) -> list[PersonalVersion]:
    """The last that was trained of each assistant and kind, whatever came of it, without
    parameters."""
    rows = session.scalars(select(PersonalVersion).order_by(PersonalVersion.id))
    trained = [row for row in rows if not row.config.get("imported")]
    return list({(row.assistant_id, row.kind): row for row in trained}.values())


def switch(session: Session, version: PersonalVersion) -> None:
    """Serve this one of its kind from now on."""
    own = PersonalVersion.assistant_id == version.assistant_id
    others = select(PersonalVersion).where(
        own,
        PersonalVersion.kind == version.kind,
        PersonalVersion.state == PersonalState.SERVED,
    )
    for other in session.scalars(others):
        other.state = PersonalState.KEPT
    version.state = PersonalState.SERVED


def add(
    session: Session,
    assistant_id: int,
    kind: PersonalKind,
    trained: Trained,
    material: PersonalMaterial,
    *,
    shared: str | None,
    model: str,
    is_better: bool,
) -> PersonalVersion:
    """Keep what was trained, and serve it if it is better; of what is not, only the result."""
    version = PersonalVersion(
        assistant_id=assistant_id,
        kind=kind,
        state=PersonalState.WORSE,
        shared=shared,
        config={"model": model, "material": material.digest, **trained.config},
        parameters=trained.parameters if is_better else b"",
        examples=len(material.examples),
        before=trained.before,
        after=trained.after,
    )
    session.add(version)
    session.flush()
    if is_better:
        switch(session, version)
    number = version.id
    session.add_all(PersonalSource(version_id=number, document_id=d) for d in material.documents)
    session.add_all(PersonalQuestion(version_id=number, question_id=q) for q in material.questions)
    session.flush()
    remove_oldest(session, version)
    return version


def remove_all(session: Session, assistant_id: int) -> None:
    """Delete the versions of an assistant, and give up the trainings that were asked for."""
    session.execute(delete(PersonalVersion).where(PersonalVersion.assistant_id == assistant_id))
    for job in jobs.open_personal(session, assistant_id):
        for item in job.items:
            if item.state not in jobs.FINISHED:
                jobs.fail(session, item.id, "reset", "the personal adapters were reset meanwhile")
    note_deletion(session)


def finish(session: Session, item_id: int, version: PersonalVersion) -> None:
    """Close an item of a job with the version that it led to, unless it was given up."""
    item = session.get(JobItem, item_id)
    if item is None or item.state is not ItemState.RUNNING:
        return
    item.state = ItemState.DONE
    item.chunks_done = item.chunks or 0
    made = {
        "version": version.id,
        "kind": version.kind.value,
        "state": version.state.value,
        "before": version.before,
        "after": version.after,
    }
    versions = (item.job.result or {}).get("versions", [])
    item.job.result = {"versions": [*versions, made]}
    session.flush()
    jobs.finish_if_complete(session, item.job_id)


def last_job(session: Session, assistant_id: int) -> int | None:
    """When training was last asked for, seconds since the epoch."""
    own = select(Job.created_at).where(
        Job.assistant_id == assistant_id, Job.kind == JobKind.PERSONAL
    )
    return session.scalar(own.order_by(Job.created_at.desc()).limit(1))


def remove_oldest(session: Session, version: PersonalVersion) -> None:
    """Keep `MOST_VERSIONS` of a new version's assistant and kind."""
    own = (
        select(PersonalVersion.id)
        .where(
            PersonalVersion.assistant_id == version.assistant_id,
            PersonalVersion.kind == version.kind,
        )
        .order_by((PersonalVersion.state == PersonalState.SERVED).desc(), PersonalVersion.id.desc())
        .offset(MOST_VERSIONS)
    )
    too_many = session.scalars(own).all()
    session.execute(delete(PersonalVersion).where(PersonalVersion.id.in_(too_many)))
