"""``atelier styles``: the styles of the model store, on this machine or wherever ATELIER_STORE is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from atelier.places import out, style_store
from contract.errors import InvalidParameterError
from contract.styles import StyleCard, StyleDescription, StyleSource, StyleStore

if TYPE_CHECKING:
    from generator.checkpoint import Checkpoint

app = typer.Typer(
    no_args_is_help=True,
    help="The styles of the model store itself: of ATELIER_STORE, else of the data folder. ATELIER_URL is not asked.",
)

Name = Annotated[str, typer.Argument(help="A style's name, or name@version.")]


@app.command("list")
def list_styles() -> None:
    """Lists the active version of every style, and then drafts that are newer."""
    catalogue = style_store().catalogue()
    table = Table("style", "version", "status", "source", "network", "title")
    for card in [*catalogue.cards, *catalogue.drafts]:
        network = f"{card.architecture}, {card.norm} norm, width {card.width}"
        table.add_row(card.name, str(card.version), card.status, card.source, network, card.title)
    out.print(table)


@app.command()
def show(style: Name) -> None:
    """Shows what there is to know about a style."""
    store = style_store()
    card = store.get(style)
    table = Table(show_header=False, box=None)
    for name, value in _facts(card, store).items():
        table.add_row(name, value)
    out.print(table)


def _facts(card: StyleCard, store: StyleStore) -> dict[str, str]:
    facts = {
        "style": str(card.ref),
        "title": card.title,
        "description": card.description,
        "status": f"{card.status} {card.reason}".strip(),
        "source": card.source,
        "versions": ", ".join(map(str, store.versions(card.name))),
        "network": f"{card.architecture}, {card.norm} norm, width {card.width}",
        "trunk": card.trunk,
    }
    if card.training:
        about = card.training
        facts["training"] = (
            f"{about.method}, {about.iterations:,} iterations of {about.batch}×{about.size}², {about.seconds:,.0f} s, "
            f"from {about.start or 'nothing'}"
        )
    if card.evaluation:
        for who, scores in (
            ("stylized", card.evaluation.stylized),
            ("untouched", card.evaluation.untouched),
            ("optimised", card.evaluation.optimised),
        ):
            if scores:
                facts[f"losses, {who}"] = f"content {scores.content:.3g}, style {scores.style:.3g}, {scores.total:.3g}"
    return facts


@app.command("import")
def import_styles(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A checkpoint.")],
    name: Annotated[str, typer.Option(help="The style's name; a bank of several styles brings its own.")] = "",
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    description: Annotated[str, typer.Option(help="A sentence or two.")] = "",
) -> None:
    """Publishes the styles of a checkpoint: a bank of ours, or a generator of pytorch/examples (any file suffix)."""
    from generator import checkpoint as checkpoints

    bank = checkpoints.read(file, name)
    rows = [row for row in bank.names if row != checkpoints.CONTENT_ROW and name in ("", row)]
    store = style_store()
    trunk = checkpoints.trunk_of(bank)
    for about in [_describe(row, title, description, bank) for row in rows]:
        published = store.publish(about, trunk, checkpoints.vector_of(bank, about.name))
        out.print(f"{published.ref} is published and active.", soft_wrap=True)


def _describe(name: str, title: str, description: str, bank: "Checkpoint") -> StyleDescription:
    from generator.checkpoint import CONTENT_ROW

    try:
        return StyleDescription(
            name=name,
            title=title or name.replace("_", " ").capitalize(),
            description=description,
            source=StyleSource.IMPORTED,
            architecture=bank.config.architecture,
            norm=bank.config.norm,
            width=bank.config.width,
            has_content_row=CONTENT_ROW in bank.names,
        )
    except ValidationError:
        raise InvalidParameterError(
            f"{name!r} cannot be the name of a style: use a-z, 0-9, _ and -, at most 64 of them.", parameter="name"
        ) from None


@app.command()
def export(
    style: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to write (safetensors).")],
) -> None:
    """Writes a style into one file, which ``atelier styles import`` reads on another machine."""
    import torch

    from generator.checkpoint import Checkpoint, style_vector

    store = style_store()
    card = store.get(style)
    trunk = Checkpoint.from_bytes(store.read_trunk(card.trunk))
    rows = torch.cat([trunk.styles, style_vector(store.vector(card))[None]])
    data = Checkpoint(trunk.config, trunk.trunk, (*trunk.names, card.name), rows).to_bytes()
    try:
        output.write_bytes(data)
    except OSError as error:
        raise InvalidParameterError(f"{output} cannot be written ({error.strerror}).", parameter="output") from error
    out.print(f"{output}: {card.ref}, {len(data):,} bytes", soft_wrap=True)


@app.command()
def activate(style: Annotated[str, typer.Argument(help="name@version")]) -> None:
    """Makes a version the one that the bare name means: an older one (rollback), or a draft."""
    store = style_store()
    card = store.get(style)
    store.activate(card.ref)
    out.print(f"{card.ref} is active.", soft_wrap=True)


@app.command()
def delete(
    style: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Deletes a version that is not active (name@version), or a style with all its versions (name).

    What ships with Atelier stays.
    """
    store = style_store()
    name, at, _ = style.partition("@")
    whole = not at
    refs = [f"{name}@{version}" for version in store.versions(name)] if whole else [str(store.get(style).ref)]
    if refs and not yes:
        typer.confirm(f"Delete {', '.join(refs)}?", abort=True)
    if whole:
        store.remove(name)
    else:
        store.delete(store.get(style).ref)
    out.print(f"{', '.join(refs)}: deleted.", soft_wrap=True)
