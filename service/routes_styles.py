"""Styles: those that there are, and how another is learnt."""

import hashlib
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from contract import errors
from contract.admission import Admission, Terms
from contract.errors import ScopeError, StyleExistsError, StyleNotFoundError
from contract.images import MediaType
from contract.jobs import TrainJob
from contract.keys import Scope
from contract.styles import NAME_PATTERN, STYLE_PATTERN, StyleCard, StylePicture, StyleRef, StyleStore, parse_style
from service.access import ClientDep
from service.answers import accepted, picture, replayed
from service.gateway import Gateway, GatewayDep
from service.idempotency import Reservation, payload_fingerprint, reserved
from service.openapi import (
    ACTIVE_BODY,
    IDEMPOTENCY_FAILURES,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    JOB,
    JPEG,
    LOCATION,
    NOT_MODIFIED,
    REPLAYED,
    RETRY_AFTER,
    STYLE_LINKS,
    TRAIN_BODY,
    UPLOAD_FAILURES,
    WEBHOOK_FAILURES,
    job_links,
    problems,
)
from service.options import ActiveVersion, WebhookOptions
from service.schemas import JobDocument, StyleDocument, StyleItem, StyleList
from service.uploads import StyleUpload, read_document, read_style_upload
from service.webhooks import read_webhook

FOR_EVER = "max-age=31536000, immutable"

LOST_STYLE = (errors.StyleNotFoundError, errors.InvalidParameterError, errors.StoreUnavailableError)
"""How every address of a style may fail."""

PICTURE_RESPONSES = {
    200: JPEG,
    304: NOT_MODIFIED,
    **problems(*LOST_STYLE, errors.StylePictureNotFoundError),
}

StyleName = Annotated[str, Path(json_schema_extra={"pattern": STYLE_PATTERN}, examples=["starry_night", "mine@2"])]
BareName = Annotated[str, Path(json_schema_extra={"pattern": NAME_PATTERN}, examples=["mine"])]
"""What the description says of them is held against the address by ``parse_style``, in words of our own."""

router = APIRouter()


@router.post(
    "/styles",
    summary="Train a style",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobDocument,
    openapi_extra={"requestBody": TRAIN_BODY, "parameters": [IDEMPOTENCY_KEY]},
    responses={
        202: {"headers": {**LOCATION, **RETRY_AFTER, **REPLAYED, **JOB}, "links": job_links()},
        **problems(
            *UPLOAD_FAILURES,
            *WEBHOOK_FAILURES,
            *IDEMPOTENCY_FAILURES,
            errors.StyleExistsError,
            errors.JobExpiredError,
        ),
    },
)
async def train_style(request: Request, gateway: GatewayDep, client: ClientDep) -> Response:
    """Send pictures of a style, give it a name. The answer is 202 at once: training takes minutes (`quick`) or hours.

    The job at `Location` tells how far it is, with losses and previews. When it has succeeded, the style can be used,
    and is what its bare name means; if it did not pass its check it is a draft, and `name@version` only.
    """
    async with gateway.uploading(client), reserved(request, gateway.book, client) as reservation:
        upload = await read_style_upload(request, gateway.settings)
        if upload.options.replace and Scope.ADMIN not in client.scopes:
            raise ScopeError("To replace a style changes what its name means for all, and needs a key with admin.")
        replays = reservation is not None and reservation.known is not None
        webhook = None if replays else await read_webhook(gateway, upload.options)
        terms = Terms(client=client.name, webhook=webhook)
        admission = await run_in_threadpool(_submit, gateway, upload, terms, reservation)
    response = accepted(admission.record)
    response.headers.update(replayed(admission))
    return response


@router.get(
    "/styles",
    summary="List the styles",
    responses={200: {"links": STYLE_LINKS}, **problems(errors.StoreUnavailableError)},
)
def list_styles(gateway: GatewayDep) -> StyleList:
    """Styles that share a `trunk` can be blended."""
    catalogue = gateway.styles.catalogue()
    return StyleList(
        styles=[StyleItem.of(card) for card in catalogue.cards],
        drafts=[StyleItem.of(card) for card in catalogue.drafts],
    )


@router.get("/styles/{name}", summary="Get to know a style", responses=problems(*LOST_STYLE))
def get_style(name: StyleName, gateway: GatewayDep) -> StyleDocument:
    """`name` may be `name@version`."""
    return _document(gateway.styles, gateway.styles.get(name))


@router.get(
    "/styles/{name}/thumbnail",
    summary="See a style: one photograph in it",
    response_class=Response,
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    responses=PICTURE_RESPONSES,
)
def get_thumbnail(name: StyleName, gateway: GatewayDep, request: Request) -> Response:
    """`name` may be `name@version`, whose picture never changes."""
    return _picture(gateway, name, StylePicture.THUMBNAIL, request)


@router.get(
    "/styles/{name}/sheet",
    summary="See a style: several photographs, and what it makes of them",
    response_class=Response,
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    responses=PICTURE_RESPONSES,
)
def get_sheet(name: StyleName, gateway: GatewayDep, request: Request) -> Response:
    """`name` may be `name@version`, whose picture never changes."""
    return _picture(gateway, name, StylePicture.SHEET, request)


@router.put(
    "/styles/{name}/active",
    summary="Choose the version that a style's name means",
    openapi_extra={"requestBody": ACTIVE_BODY},
    responses=problems(
        *LOST_STYLE,
        errors.MalformedBodyError,
        errors.UnsupportedBodyError,
        errors.BodyTooLargeError,
        errors.UploadTimeoutError,
        errors.TooManyUploadsError,
        errors.UploadQuotaError,
    ),
)
async def activate_style(name: BareName, request: Request, gateway: GatewayDep, client: ClientDep) -> StyleDocument:
    """To go back to an older version, or to publish a draft. Jobs keep the version that they were accepted with."""
    async with gateway.uploading(client):
        wanted = await read_document(request, ActiveVersion)
    return await run_in_threadpool(_activate, gateway.styles, name, wanted.version)


@router.delete(
    "/styles/{name}",
    summary="Delete a style, or one version of it",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(*LOST_STYLE, errors.StyleActiveError, errors.StyleBuiltinError),
)
def delete_style(name: StyleName, gateway: GatewayDep) -> None:
    """`name@version` deletes a version that is not active, the bare name all of them. What ships with Atelier stays.

    Jobs that wait for what is deleted may fail. A training of this name goes on, and publishes a new version: cancel
    it, too, if that is not wanted.
    """
    bare, version = parse_style(name)
    if version is None:
        gateway.styles.remove(bare)
    else:
        gateway.styles.delete(StyleRef(name=bare, version=version))


def _submit(gateway: Gateway, upload: StyleUpload, terms: Terms, reservation: Reservation | None) -> Admission:
    """From a checked upload to a waiting job."""
    options = upload.options
    if reservation:
        fingerprint = payload_fingerprint(upload.pictures, options)
        if replay := reservation.replay(gateway.book, fingerprint):
            return replay
        terms = replace(terms, idempotency=reservation.idempotency(fingerprint))
    # Drafts alone do not take a name: whoever may train could not try again.
    if not options.replace and gateway.styles.active_card(options.name):
        raise StyleExistsError(
            f"There is a style {options.name!r}: take another name, or send replace=true to train its next version."
        )
    job = TrainJob(
        images=tuple(gateway.images.put(data) for data in upload.pictures),
        **options.model_dump(exclude={*WebhookOptions.model_fields}),
    )
    return gateway.queue.admit(job, terms)


def _document(styles: StyleStore, card: StyleCard) -> StyleDocument:
    active = styles.active_card(card.name)
    return StyleDocument.of(card, versions=styles.versions(card.name), active=active.version if active else None)


def _picture(gateway: Gateway, name: str, kind: StylePicture, request: Request) -> Response:
    _, version = parse_style(name)
    data = gateway.styles.picture(gateway.styles.get(name), kind)
    known = request.headers.get("if-none-match", "")
    # What needs a key must not be given to others by a cache that they share.
    whose = "private" if gateway.keys.needed else "public"
    headers = {"Cache-Control": f"{whose}, {FOR_EVER}" if version else "no-cache"}
    return picture(lambda: data, MediaType.JPEG, hashlib.sha256(data).hexdigest(), known, headers)


def _activate(styles: StyleStore, name: str, version: int) -> StyleDocument:
    bare, other = parse_style(name)
    if other is not None:
        raise StyleNotFoundError(f"A version has no active one: write the bare name, PUT /styles/{bare}/active.")
    styles.activate(StyleRef(name=bare, version=version))
    return _document(styles, styles.get(bare))
