"""A training recipe: one TOML file, one frozen model, every field with unit and reason, every fault named with the nearest key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prioritizer.errors import ConfigError
from prioritizer.imaging import preprocessing as imaging_preprocessing

Share = Field(default=0.0, ge=0, le=1)


class RecipeTable(BaseModel):
    """A table of the file: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


AnyTable = TypeVar("AnyTable", bound=RecipeTable)


class Picture(RecipeTable):
    """What the network is fed, in training and in service."""

    size: int = Field(default=224, ge=32, le=1024)
    """Side in pixels."""
    resize: Literal["squash", "pad"] = "squash"
    """`squash`: the aspect is lost, as in the public training files. `pad`: black bars keep it."""
    tone: Literal["as-is", "equalised"] = "as-is"
    """`equalised`: every picture gets the same distribution of grey, so that no window or tone curve of a device is left."""
    mean: float = 0.5
    """Taken off every grey (0..1) before the network sees it."""
    std: float = Field(default=0.25, gt=0)
    """What is left is divided by this."""


class Augment(RecipeTable):
    """How each training picture is changed at random. All of it off by default."""

    rotation: float = Field(default=0.0, ge=0, le=45)
    """Degrees, either way."""
    shift: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the side, either way; brings black borders in and cuts markers off."""
    scale: float = Field(default=0.0, ge=0, le=0.5)
    """Share, either way."""
    aspect: float = Field(default=0.0, ge=0, le=0.5)
    """Natural logarithm of the stretch of width against height, either way: squashed files of two aspects differ in it."""
    flip: float = Share
    """Chance of a left-right mirror image: no side marker helps any more."""
    brightness: float = Field(default=0.0, ge=0, le=0.5)
    """Added to the picture (0..1), either way."""
    contrast: float = Field(default=0.0, ge=0, le=0.9)
    """Share, either way, about mid-grey."""
    gamma: float = Field(default=0.0, ge=0, le=1)
    """Natural logarithm of the exponent of the tone curve, either way."""
    blur: float = Share
    """Chance of a Gaussian blur of 0.4 to 1.8 pixels at 224: sharpness tells how the file was made."""
    jpeg: float = Share
    """Chance of a JPEG round trip at quality 15 to 90."""
    noise: float = Field(default=0.0, ge=0, le=0.3)
    """Largest standard deviation of added Gaussian noise (0..1)."""
    erase: int = Field(default=0, ge=0, le=8)
    """Up to so many rectangles painted over, six in ten at a corner, where markers stand."""
    surround: float = Share
    """Chance that the lungs stand in the surround of another film of the batch, drawn without a look at the label: framing, posture
    and devices outside the lungs no longer go with it."""
    mix_spectra: float = Share
    """Chance that a batch swaps its Fourier amplitudes in part, phases kept: texture no longer goes with the label (Xu et al. 2021)."""


class Phase(RecipeTable):
    """A stretch of epochs with its own rate, size and trainable part."""

    epochs: int = Field(gt=0)
    """Passes over as many pictures as the training split holds."""
    learning_rate: float = Field(gt=0)
    """Peak of `one-cycle`, start of the others."""
    schedule: Literal["one-cycle", "constant", "plateau", "continue"] = "one-cycle"
    """`plateau` divides the rate by ten after two epochs without a better ROC-AUC on `select` (ReduceLROnPlateau). `continue`
    goes on with optimiser and rate of the phase before, whose one cycle then spans both: only the size changes."""
    trainable: Literal["all", "last-block", "head"] = "all"
    """What learns. A body with random weights is never frozen: with no initial weights this reads as `all`, and the run says so."""
    size: int = Field(default=0, ge=0)
    """Side of the training pictures in this phase; 0 is the full size. Small pictures first is faster and coarser."""


class Recipe(RecipeTable):
    """How a network is trained."""

    architecture: str = "densenet121"
    """Any timm name."""
    initial: Literal["random", "imagenet"] = "random"
    """`imagenet`: the weights of an installed package (extra `imagenet`), for tf_efficientnet_lite0, _lite1 and _lite2. The pictures then
    have mean 0.5 and std 0.5, as those had that the weights were learned on."""
    stride: Literal[16, 32] = 32
    """Pixels from one cell of the map to the next: 16 draws twice as finely, and costs more; for the EfficientNets."""
    outputs: Literal[1, 2] = 1
    """1: a sigmoid. 2: a softmax; its logit is the difference of the two."""
    seed: int = 20261122
    """Of first weights, order and random changes; the same seed and data give the same run."""
    batch_size: int = Field(default=32, gt=0)
    """Images a step, over all processes."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the head."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Of AdamW."""
    lung_loss: float = Field(default=0.0, ge=0)
    """Weight of the second loss beside the cross-entropy: the share of what raises the logit that lies outside the lungs, of films with
    pneumonia and a lung mask (`train --masks`, or `masks` of a sources file)."""
    painted_over: float = Share
    """Chance that a film with a lung mask is shown with its lungs painted over, and nothing is asked of it but to stay undecided: what
    stands around the lungs, and the shape of the lungs, then say nothing."""
    teacher: float = Share
    """Of what is asked of an image with a text-mined label, the share that is the probability which earlier runs give it, on
    average (`train --teacher RUN`); the rest is the label."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Labels become s and 1 - s."""
    pos_weight: bool = False
    """Weigh positives by negatives / positives. Shifts P(positive); the calibration's free intercept undoes it."""
    sampler: Literal["shuffle", "balanced", "unlinked", "sites", "kinds"] = "shuffle"
    """`balanced`: both classes alike often (WeightedRandomSampler). `unlinked`: pictures are drawn so that file statistics
    (bytes, sharpness, brightness) say less about the label: by the inverse of P(label | statistics), at most ten fold.
    `sites`: every class of every site alike often, so that the site says nothing of the label. `kinds`: the same, and within a class
    of a site every kind (normal and other disease, for example) alike often."""
    clip: float = Field(default=0.0, ge=0)
    """Largest norm of the gradient; 0 is no limit."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the exponential moving average of the weights, which is then what is kept; 0 is none."""
    select: Literal["last", "roc-auc", "unlinked", "looking"] = "last"
    """Which epoch is kept: the last; the best ROC-AUC on the `select` split; or the best mean there of the ROC-AUC matched by
    file statistics and of the ROC-AUCs on blurred, re-compressed, noisy and darkened copies and on copies in the surround of a film of
    the other class, so that selection sees a shortcut; or `looking`: the mean of the ROC-AUCs by site, of the share of the maps in lung
    masks and of how often a map's highest point lies in a radiologist's box, as far as masks and boxes are known."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many epochs without a better selection figure; 0 is never."""
    picture: Picture = Picture()
    augment: Augment = Augment(rotation=5.0, shift=0.05, scale=0.08, brightness=0.15, contrast=0.2)
    phases: tuple[Phase, ...] = (Phase(epochs=10, learning_rate=1e-3),)

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if not self.phases:
            raise ValueError("a recipe needs at least one [[phases]]")
        if self.phases[0].schedule == "continue":
            raise ValueError("the first phase has none before it to continue")
        if any(phase.size > self.picture.size for phase in self.phases):
            raise ValueError("the size of a phase is above picture.size")
        return self

    @model_validator(mode="after")
    def _pictures_fit_the_masks(self) -> Self:
        if (self.needs_masks or self.select == "looking") and self.picture.resize != "squash":
            raise ValueError(
                'lung_loss, painted_over and select = "looking": masks are squashed to a square as the films are; '
                'set resize = "squash" in [picture]'
            )
        return self

    @model_validator(mode="after")
    def _pictures_fit_the_weights(self) -> Self:
        if self.initial == "imagenet" and (self.picture.mean, self.picture.std) != (0.5, 0.5):
            raise ValueError('initial = "imagenet" was learned on pictures with mean 0.5 and std 0.5: set both in [picture]')
        return self

    @property
    def needs_masks(self) -> bool:
        """Something is learned from lung masks."""
        return bool(self.lung_loss or self.painted_over)

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def preprocessing(self) -> imaging_preprocessing.Preprocessing:
        """What the network will be fed; the id names every choice, so that two of them never share one."""
        p = self.picture
        toned = "" if p.tone == "as-is" else f"-{p.tone}"
        return imaging_preprocessing.Preprocessing(
            id=f"grey-{p.resize}-{p.size}{toned}-v1", size=p.size, resize=p.resize, mean=(p.mean,) * 3, std=(p.std,) * 3, tone=p.tone
        )


def shipped_folder() -> Path:
    """The recipes that ship with prioritizer: inside an installed package, or the checkout's `config/recipes/`."""
    packed = Path(str(resources.files("prioritizer"))) / "_data" / "config" / "recipes"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[3] / "config" / "recipes"


def shipped_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in shipped_folder().glob("*.toml") if not path.stem.endswith("-statement"))


def find_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The shipped recipe of this name, or the one in the TOML file of this path, with `changes` (see `changed`). Raises ConfigError."""
    if name in shipped_names():
        return read_recipe(shipped_folder() / f"{name}.toml", changes)
    if not Path(name).is_file():
        raise ConfigError((f"{name}: neither a file nor a shipped recipe ({', '.join(shipped_names())})",))
    return read_recipe(Path(name), changes)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file; raises ConfigError with every fault."""
    return read_file(path, Recipe, changes)


def read_file(path: Path, form: type[AnyTable], changes: Sequence[str] = ()) -> AnyTable:
    """The TOML file `path` as a `form`; raises ConfigError with every fault, each with file, key and nearest key."""
    try:
        read = form(**tomllib.loads(path.read_text(encoding="utf-8")))
        # Changed as a whole: a table that the file leaves out keeps the rest of its defaults.
        return form(**changed(read.model_dump(mode="json"), changes)) if changes else read
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigError((f"{path}: is no text in UTF-8",)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{path}: not valid TOML: {error}",)) from error
    except ValidationError as error:
        raise ConfigError(tuple(_fault(path, form, dict(e)) for e in error.errors())) from error


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """What a file holds, with `key=value` put in: `lung_loss=0`, `augment.flip=0.5`, `phases.2.epochs=3`; the first phase is 1.

    A value is written as in TOML; what is no TOML is a text. Raises ConfigError for what is no `key=value`, and for a phase that is not
    there.
    """
    for change in changes:
        key, sign, text = (part.strip() for part in change.partition("="))
        if not sign or not key:
            raise ConfigError((f"{change}: give key=value, for example lung_loss=0 or phases.1.epochs=3",))
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *above, last = key.split(".")
        place: Any = values
        for name in above:
            place = _inside(place, name, change)
        if not isinstance(place, dict):
            raise ConfigError((f"{change}: {'.'.join(above)} holds no keys",))
        place[last] = value
    return values


def _inside(place: Any, name: str, change: str) -> Any:
    """The table or list under this name."""
    if isinstance(place, dict):
        return place.setdefault(name, {})
    if isinstance(place, list) and name.isdecimal() and 1 <= int(name) <= len(place):
        return place[int(name) - 1]
    counted = f"; there are {len(place)}, the first is 1" if isinstance(place, list) else ""
    raise ConfigError((f"{change}: nothing stands at {name}{counted}",))


def _fault(path: Path, form: type[RecipeTable], error: dict[str, Any]) -> str:
    """One validation error as `file: key: what is wrong; did you mean`."""
    where = [str(part) for part in error["loc"]]
    if error["type"] != "extra_forbidden":
        return f"{path}: {'.'.join(where) or form.__name__.lower()}: {error['msg'].removeprefix('Value error, ')}"
    known = _table_at(form, error["loc"][:-1]).model_fields
    near = difflib.get_close_matches(where[-1], known, n=1)
    mend = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"{path}: unknown key {'.'.join(where)!r}{mend}"


def _table_at(form: type[RecipeTable], where: tuple[int | str, ...]) -> type[RecipeTable]:
    """The table that stands at this place of a file: of an array of tables each is alike."""
    for name in where:
        if isinstance(name, str):
            annotation = form.model_fields[name].annotation
            candidates = (annotation, *get_args(annotation))
            form = next(one for one in candidates if isinstance(one, type) and issubclass(one, RecipeTable))
    return form


def continuing(later: Sequence[Phase]) -> Iterator[Phase]:
    """The phases that go on with the rate of the one before them."""
    for phase in later:
        if phase.schedule != "continue":
            return
        yield phase
