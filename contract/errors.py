"""The failures we expect, each with a stable code and a message that a client may read.

    AtelierError
    ├── BadRequestError            the request itself is wrong
    │   ├── InvalidParameterError      an option is unknown or out of range
    │   ├── MalformedBodyError         the body is not what its content type says
    │   ├── NoImageError               there is no picture in the request
    │   ├── UnsupportedBodyError       the content type of the body is not one of ours
    │   ├── NotAcceptableError         no format that the client accepts
    │   └── MethodNotAllowedError      the path exists, the method does not
    ├── ImageError                 the picture cannot be used
    │   ├── UnsupportedImageError      not JPEG, PNG, WebP or AVIF
    │   ├── BrokenImageError           it says it is one of them, and does not decode
    │   ├── ImageTooSmallError         a side under the least that the generators take
    │   ├── ImageTooLargeError         more pixels, or a longer side, than the limit
    │   └── ImageTooComplexError       so many parts that reading it is an attack
    ├── BodyTooLargeError          more bytes than the limit
    ├── UploadTimeoutError         the body came too slowly
    ├── OutboundError              an address that the request names cannot be called
    │   ├── UrlRefusedError            it is none that the gateway calls
    │   ├── FetchFailedError           nobody answers, or not with what was asked for
    │   └── FetchTimeoutError          the answer takes too long
    ├── SwitchedOffError           the operator has not switched it on
    ├── UnauthorizedError          no key, or none that is known
    ├── ScopeError                 the key is good for other things
    ├── ForbiddenError             it is not for whoever asks
    ├── CrossSiteError             a web page of somebody else sent it
    ├── HostError                  the name under which the service was asked is none of its own
    ├── QuotaError                 a client has had its share
    │   ├── QuotaExceededError         as many requests of a minute as its key may make
    │   └── UploadQuotaError           as many bodies at once as its key may send
    ├── NotFoundError              nothing has that address
    │   ├── StyleNotFoundError
    │   ├── StylePictureNotFoundError  the style has no thumbnail or contact sheet
    │   ├── JobNotFoundError
    │   ├── DeliveryNotFoundError      the job has no such call of a webhook
    │   └── PreviewNotFoundError       the job has no such preview (yet, or any more)
    ├── StyleExistsError           the name is taken
    ├── StyleActiveError           the active version cannot be deleted
    ├── StyleBuiltinError          what ships with Atelier cannot be deleted
    ├── BlendError                 the styles cannot be blended, or have no strength to set
    ├── JobExpiredError            it existed; its time is over
    ├── ResultNotReadyError        the job has no picture (yet, or ever)
    ├── JobFinishedError           too late to cancel
    ├── JobSharedError             others were given the same job, so it is not one client's to cancel
    ├── KeyReusedError             the idempotency key belongs to another payload
    ├── RequestInFlightError       the request that has the idempotency key has not become a job yet
    ├── BusyError                  try again later, nothing is lost
    │   ├── QueueFullError
    │   ├── TooManyUploadsError        as many bodies are coming in as may
    │   ├── TooManyListenersError      as many requests wait for jobs as may
    │   ├── QueueUnavailableError      Redis does not answer
    │   └── StoreUnavailableError      pictures or styles cannot be written or read
    ├── JobError                   how a job fails after it was accepted
    │   ├── PoisonJobError             it took its worker down too often
    │   ├── JobTimeoutError            longer than a job may take
    │   ├── JobCanceledError           somebody canceled it
    │   ├── BatchFailedError           none of its pictures could be made
    │   ├── OutOfMemoryError           the picture does not fit into memory
    │   ├── ScratchFullError           the worker's disk is too full for a picture of this size
    │   ├── TrainingDivergedError      the losses grew instead of falling
    │   ├── TrainingDataError          descriptor weights or photographs are missing
    │   ├── ImageLostError             the uploaded picture is no longer in the store
    │   └── InternalError              a fault of ours, in the log under the job's id
    ├── CheckpointError            a file of weights cannot be used
    └── SettingsError              the service cannot start like this

``code`` is for programs and never changes; ``title`` is the same sentence for every occurrence; the message
(``str(error)``) says what happened this time and what to do about it. A message never holds a path, a traceback or
anything else of the server's own.
"""

from typing import ClassVar


class AtelierError(Exception):
    """A failure that we expect. ``retry_after_seconds`` is a hint for those that pass by themselves."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The request failed"

    def __init__(self, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BadRequestError(AtelierError):
    code = "bad-request"
    title = "The request is wrong"


class InvalidParameterError(BadRequestError):
    """An option is unknown or out of range. ``parameter`` names it."""

    code = "invalid-parameter"
    title = "A parameter is invalid"

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class MalformedBodyError(BadRequestError):
    code = "malformed-body"
    title = "The body cannot be read"


class NoImageError(BadRequestError):
    code = "no-image"
    title = "There is no picture in the request"


class UnsupportedBodyError(BadRequestError):
    code = "unsupported-body"
    title = "The content type of the body is not supported"


class NotAcceptableError(BadRequestError):
    code = "not-acceptable"
    title = "No acceptable output format"


class MethodNotAllowedError(BadRequestError):
    code = "method-not-allowed"
    title = "The method is not allowed here"


class ImageError(AtelierError):
    code = "image-error"
    title = "The picture cannot be used"


class UnsupportedImageError(ImageError):
    code = "unsupported-image"
    title = "The picture's format is not supported"


class BrokenImageError(ImageError):
    code = "broken-image"
    title = "The picture is broken"


class ImageTooSmallError(ImageError):
    code = "image-too-small"
    title = "The picture is too small"


class ImageTooLargeError(ImageError):
    code = "image-too-large"
    title = "The picture has too many pixels"


class ImageTooComplexError(ImageError):
    code = "image-too-complex"
    title = "The picture is in too many parts"


class BodyTooLargeError(AtelierError):
    code = "body-too-large"
    title = "The body has too many bytes"


class UploadTimeoutError(AtelierError):
    code = "upload-timeout"
    title = "The upload took too long"


class OutboundError(AtelierError):
    code = "outbound-error"
    title = "The address cannot be called"


class UrlRefusedError(OutboundError):
    code = "url-refused"
    title = "The address is refused"


class FetchFailedError(OutboundError):
    code = "fetch-failed"
    title = "The address does not answer as it should"


class FetchTimeoutError(OutboundError):
    code = "fetch-timeout"
    title = "The address does not answer in time"


class SwitchedOffError(AtelierError):
    code = "switched-off"
    title = "This is switched off here"


class UnauthorizedError(AtelierError):
    code = "unauthorized"
    title = "A key is needed"


class ForbiddenError(AtelierError):
    code = "forbidden"
    title = "This is not for you"


class ScopeError(AtelierError):
    code = "scope-missing"
    title = "The key does not have the scope for this"


class CrossSiteError(AtelierError):
    code = "cross-site"
    title = "The request comes from a web page of another site"


class HostError(AtelierError):
    code = "host-not-allowed"
    title = "The service does not answer under this name"


class QuotaError(AtelierError):
    code = "quota"
    title = "You have had your share for now"


class QuotaExceededError(QuotaError):
    code = "quota-exceeded"
    title = "The quota of requests is used up"


class UploadQuotaError(QuotaError):
    code = "upload-quota-exceeded"
    title = "Too many uploads of one key are under way"


class NotFoundError(AtelierError):
    code = "not-found"
    title = "There is nothing at this address"


class StyleNotFoundError(NotFoundError):
    code = "style-not-found"
    title = "There is no such style"


class StylePictureNotFoundError(NotFoundError):
    code = "style-picture-not-found"
    title = "The style has no such picture"


class JobNotFoundError(NotFoundError):
    code = "job-not-found"
    title = "There is no such job"


class DeliveryNotFoundError(NotFoundError):
    code = "delivery-not-found"
    title = "The job has no such delivery"


class PreviewNotFoundError(NotFoundError):
    code = "preview-not-found"
    title = "The job has no such preview"


class StyleExistsError(AtelierError):
    code = "style-exists"
    title = "The name of the style is taken"


class StyleActiveError(AtelierError):
    code = "style-active"
    title = "The version is active"


class StyleBuiltinError(AtelierError):
    code = "style-builtin"
    title = "The style ships with Atelier"


class BlendError(AtelierError):
    """The styles cannot be used like this. Blends need one trunk, strength needs a row that reproduces the content."""

    code = "styles-do-not-blend"
    title = "These styles cannot be blended"


class JobExpiredError(AtelierError):
    code = "job-expired"
    title = "The job has expired"


class ResultNotReadyError(AtelierError):
    code = "result-not-ready"
    title = "The job has no result"


class JobFinishedError(AtelierError):
    code = "job-finished"
    title = "The job has ended already"


class JobSharedError(AtelierError):
    code = "job-shared"
    title = "Several requests were given this job"


class KeyReusedError(AtelierError):
    code = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"


class RequestInFlightError(AtelierError):
    code = "request-in-flight"
    title = "The first request with this idempotency key is still coming in"


class BusyError(AtelierError):
    code = "busy"
    title = "The service is busy"


class QueueFullError(BusyError):
    code = "queue-full"
    title = "The queue is full"


class TooManyUploadsError(BusyError):
    code = "too-many-uploads"
    title = "Too many uploads are under way"


class TooManyListenersError(BusyError):
    code = "too-many-listeners"
    title = "Too many requests wait for jobs"


class QueueUnavailableError(BusyError):
    code = "queue-unavailable"
    title = "The queue does not answer"


class StoreUnavailableError(BusyError):
    code = "store-unavailable"
    title = "The store does not answer"


class JobError(AtelierError):
    code = "job-error"
    title = "The job failed"


class PoisonJobError(JobError):
    code = "poison-job"
    title = "The job took its worker down too often"


class JobTimeoutError(JobError):
    code = "job-timeout"
    title = "The job took too long"


class JobCanceledError(JobError):
    code = "job-canceled"
    title = "The job was canceled"


class BatchFailedError(JobError):
    code = "batch-failed"
    title = "No picture of the batch could be made"


class OutOfMemoryError(JobError):
    code = "out-of-memory"
    title = "The picture does not fit into memory"


class ScratchFullError(JobError):
    code = "scratch-full"
    title = "The picture does not fit onto the worker's disk"


class TrainingDivergedError(JobError):
    code = "training-diverged"
    title = "The training diverged"


class TrainingDataError(JobError):
    code = "training-data-missing"
    title = "The trainer lacks descriptor weights or photographs"


class ImageLostError(JobError):
    code = "image-lost"
    title = "The uploaded picture is gone"


class InternalError(JobError):
    code = "internal-error"
    title = "Something went wrong on our side"


class CheckpointError(AtelierError):
    code = "bad-checkpoint"
    title = "The file of weights cannot be used"


class SettingsError(AtelierError):
    code = "bad-settings"
    title = "The service cannot start like this"
