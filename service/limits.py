"""Every limit that the gateway holds requests against, and which setting moves it."""

from contract.images import HEADER_BYTES
from contract.jobbook import room_for
from contract.jobs import (
    MAX_BLEND,
    MAX_STRENGTH,
    MAX_STROKE_SIZE,
    MAX_STYLE_PICTURES,
    MAX_STYLE_WEIGHT,
    MIN_STROKE_SIZE,
    Priority,
)
from contract.watch import places_of_a_client
from contract.webhooks import MAX_DELIVERIES, MAX_WEBHOOKS
from service.clients import Client
from service.guard import max_body_bytes
from service.idempotency import MAX_KEY_LENGTH
from service.inspection import MAX_SCANS
from service.options import MIN_SIDE
from service.outbound import MAX_REDIRECTS, MAX_URL_LENGTH
from service.schemas import Limit
from service.settings import ServiceSettings
from service.uploads import FORM_FIELD_BYTES, FORM_FIELDS


def limits(settings: ServiceSettings, client: Client) -> list[Limit]:
    """Those of keys, those that a setting moves, then those that are what they are."""
    return [*_of_keys(settings, client), *_of_requests(settings), *_of_jobs(settings), *_fixed()]


def _of_keys(settings: ServiceSettings, client: Client) -> list[Limit]:
    """What holds for the client's key, whose entry in the file goes before the setting; else what holds by default."""
    uploads = client.uploads or settings.max_uploads_per_key
    rate = client.requests_per_minute or settings.requests_per_minute
    told = [
        _set("uploads_per_key", uploads, "requests", "max_uploads_per_key", "Bodies of one key that come in at once."),
        _set("waiting_per_key", places_of_a_client(settings.max_waiting), "requests", "max_waiting",
             "Requests of one key that wait for a job, or follow its events, at once."),
    ]  # fmt: skip
    if rate is not None:
        told.append(_set("requests_per_minute", rate, "requests", "requests_per_minute",
                         "Requests of one key that make jobs, in any minute."))  # fmt: skip
    return told


def _of_requests(settings: ServiceSettings) -> list[Limit]:
    return [
        _set("body", max_body_bytes(settings), "bytes", "max_body_megabytes", "The largest request body."),
        _set("uploads", settings.max_uploads, "requests", "max_uploads", "Bodies that come in at once."),
        _set("upload_idle", settings.upload_idle_seconds, "seconds", "upload_idle_seconds",
             "A pause in a body, a request's header, and a pause in reading an answer."),
        _set("upload_total", settings.upload_total_seconds, "seconds", "upload_total_seconds", "A whole body."),
        _set("connections", settings.max_connections, "connections", "max_connections",
             "Open connections; for one more, the one that has waited longest without a request is closed."),
        _set("batch", settings.max_batch, "pictures", "max_batch", "Pictures of one request."),
        _set("upload_pixels", settings.max_upload_megapixels * 1e6, "pixels", "max_upload_megapixels",
             "The largest picture that is taken."),
        _set("result_pixels", settings.max_megapixels * 1e6, "pixels", "max_megapixels",
             "The largest result; a larger photograph is scaled down to it."),
        _set("side", settings.max_side, "pixels", "max_side", "The longest side of a picture, in and out."),
        _set("wait_default", settings.wait_seconds, "seconds", "wait_seconds", "A wait when the client does not say."),
        _set("wait", settings.max_wait_seconds, "seconds", "max_wait_seconds", "The longest wait."),
        _set("outbound", settings.outbound_seconds, "seconds", "outbound_seconds",
             "A call of an address that a request names, with its redirects."),
        _set("waiting", settings.max_waiting, "requests", "max_waiting",
             "Requests that wait for a job, or follow its events, at once."),
    ]  # fmt: skip


def _of_jobs(settings: ServiceSettings) -> list[Limit]:
    return [
        _set("queue_normal", room_for(Priority.NORMAL, settings.queue_limit), "jobs", "queue_limit",
             "Pictures that wait when one of priority `normal` comes: the rest is for those that are more urgent."),
        _set("queue_batch", room_for(Priority.BATCH, settings.queue_limit), "jobs", "queue_limit",
             "Pictures that wait when one of priority `batch` comes."),
        _set("queue", settings.queue_limit, "jobs", "queue_limit", "Pictures that wait to be stylized."),
        _set("train_queue", settings.train_queue_limit, "jobs", "train_queue_limit", "Styles that wait to be trained."),
        _set("iterations", settings.max_iterations, "iterations", "max_iterations", "`iterations` of a training."),
        _set("job", settings.job_seconds, "seconds", "job_seconds", "One attempt at a picture."),
        _set("attempts", settings.attempts, "attempts", "attempts", "Attempts at a job."),
        _set("result", settings.result_seconds, "seconds", "result_seconds",
             "How long an ended job is kept, its picture, and its idempotency keys."),
        _set("tombstone", settings.tombstone_seconds, "seconds", "tombstone_seconds",
             "How much longer its id is answered 410."),
    ]  # fmt: skip


def _fixed() -> list[Limit]:
    return [
        _always("least_side", MIN_SIDE, "pixels", "The shortest side of a picture, in and out."),
        _always("header", HEADER_BYTES, "bytes", "What comes before the pixels of a JPEG or PNG: profiles, text."),
        _always("scans", MAX_SCANS, "scans", "Passes of a progressive JPEG."),
        _always("form_fields", FORM_FIELDS, "fields", "Fields of a form that are text."),
        _always("form_field", FORM_FIELD_BYTES, "bytes", "One field of a form that is text."),
        _always("style_pictures", MAX_STYLE_PICTURES, "pictures", "Pictures of a new style."),
        _always("idempotency_key", MAX_KEY_LENGTH, "characters", "An idempotency key."),
        _always("url", MAX_URL_LENGTH, "characters", "An address that is to be called."),
        _always("webhooks", MAX_WEBHOOKS, "webhooks", "Webhooks of one job."),
        _always("deliveries", MAX_DELIVERIES, "deliveries", "Calls of webhooks for one job."),
        _always("redirects", MAX_REDIRECTS, "redirects", "From the address of a picture to the picture."),
        _always("blend", MAX_BLEND, "styles", "Styles of a blend."),
        _always("strength", MAX_STRENGTH, "times", "`strength` of a style."),
        _always("style_weight", MAX_STYLE_WEIGHT, "times", "`style_weight` of a training."),
        _always("stroke_size", MAX_STROKE_SIZE, "times", "`stroke_size` of a training."),
        _always("least_stroke_size", MIN_STROKE_SIZE, "times", "The least `stroke_size` of a training."),
    ]


def _set(name: str, value: float, unit: str, setting: str, about: str) -> Limit:
    return Limit(name=name, value=value, unit=unit, setting=f"ATELIER_{setting.upper()}", about=about)


def _always(name: str, value: float, unit: str, about: str) -> Limit:
    return Limit(name=name, value=value, unit=unit, setting=None, about=about)
