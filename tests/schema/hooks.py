"""What schemathesis cannot know of our interface: what a picture is, and which styles there are."""

import base64

import schemathesis
from hypothesis import strategies as st

from tests.pictures import encoded, photograph

SIZES = ((16, 16), (40, 30), (17, 64))
PICTURES = [
    encoded(photograph(*size, seed=seed), name) for seed, size in enumerate(SIZES) for name in ("PNG", "JPEG", "WEBP")
]

pictures = st.sampled_from(PICTURES)

for media_type in ("image/*", "image/png"):
    schemathesis.openapi.media_type(media_type, pictures)
schemathesis.openapi.format("binary", pictures)
schemathesis.openapi.format(
    "picture-url", pictures.map(lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}")
)
