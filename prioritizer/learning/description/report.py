"""The description of a cohort as a page: what a person should have seen before training on it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.dicom.standard.contexts import SYNTAX_BY_UID
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.duplicates import MAX_BITS, MIN_CORRELATION
from prioritizer.learning.cohorts.labelled_image import Fault, LabelledImage
from prioritizer.learning.description.describe import (
    CLASS_NAMES,
    KNOWABLE,
    Description,
    class_counts,
    class_medians,
    facts_of,
    known_counts,
    pair_row,
    patients_in_both,
    split_counts,
)
from prioritizer.learning.description.file_facts import FILE_NAMES, SEEN
from prioritizer.learning.description.metadata_control import MIN_COUNT, SUSPICIOUS, sentence
from prioritizer.reports import plots
from prioritizer.reports.page import Plot, Report, ReportVerdict, Section, Table, Thumbnail

Float32 = NDArray[np.float32]
Augment = Callable[[Float32], Float32]
SHOWN = 20
"""Rows of a list that the page shows; the JSON file has all of them."""
EXAMPLES = 5
"""Pictures of each class that the page shows: one row."""
RULE = (
    "'mend the data' where a patient or a film stands in two splits or one film has both labels; 'shortcuts found' where file or header "
    f"facts, which hold no anatomy, reach a ROC-AUC whose lower 95 % bound is above {SUSPICIOUS:.2f}; 'too few to say' below {MIN_COUNT} "
    "images in a class."
)
DRAWN = {
    "file bytes": "bytes of the file",
    "log sharpness": "log10 of the Laplacian variance (224 x 224)",
    "mean": "mean grey (0..1)",
    "percentile 99": "99th percentile of grey (0..1)",
}


def verdict_of(found: Description) -> ReportVerdict:
    """The word and sentence on top of the page."""
    contradictory = sum(pair.contradictory for pair in found.pairs)
    broken = [
        f"{len(found.shared_patients)} patients stand in two splits" if found.shared_patients else "",
        f"{len(found.across)} pairs of copies stand in two splits" if found.across else "",
        f"{contradictory} pairs of copies of one film carry both labels" if contradictory else "",
    ]
    said = sentence(found.controls)
    if any(broken):
        return ReportVerdict(word="mend the data", sentence=f"{'; '.join(filter(None, broken)).capitalize()}. {said}", rule=RULE)
    if found.controls is None or found.controls.smaller_class < MIN_COUNT:
        return ReportVerdict(word="too few to say", sentence=said, rule=RULE)
    word = "shortcuts found" if found.controls.found else "no shortcut found in the files"
    return ReportVerdict(word=word, sentence=said, rule=RULE)


def report_of(found: Description, made_at: datetime, augment: Augment | None = None) -> Report:
    """The whole page. `augment` changes pictures float32 (N, S, S), 0..1, at random as the training does."""
    sections = [_read(found), _classes(found), _splits(found), _control(found), _files(found), _greys(found), _duplicates(found)]
    return Report(
        title=f"Data: {found.cohort.title}",
        made_at=made_at,
        verdict=verdict_of(found),
        sections=(*sections, *_pictures(found, augment)),
        facts=facts_of(found),
    )


def _read(found: Description) -> Section:
    counts = Counter(fault.what for fault in found.faults)
    images = found.images
    tables = [
        Table(
            caption="What is known of the images",
            header=("", "known", "missing"),
            rows=tuple((name.replace("_", " "), n, len(images) - n) for name, n in known_counts(images).items()),
            greyed=frozenset(i for i, name in enumerate(KNOWABLE) if not known_counts(images)[name]),
        )
    ]
    if found.cohort.sources:
        header = ("source", "site", "role", "labels", "images", "with pneumonia", "licence and whom to cite")
        rows = tuple((s.name, s.site, s.role, s.label_source, s.images, s.pneumonia, s.attribution) for s in found.cohort.sources)
        tables.append(Table(caption="Sources, before files that cannot be read are left out", header=header, rows=rows))
    if found.faults:
        tables.append(Table(caption="Faults by kind", header=("kind", "count"), rows=tuple(counts.most_common())))
        first = tuple((fault.what, fault.file, fault.said) for fault in _first_of_each(found))
        tables.append(Table(caption=f"Faults, the first {len(first)} of {len(found.faults)}", header=("kind", "where", "what"), rows=first))
    text = (
        f"{len(images)} images of {len({image.patient for image in images})} patients can be used; {len(found.faults)} faults.",
        f"Labels: {found.cohort.form}.",
    )
    return Section(title="What was read, and what was left out", answers="TRIPOD+AI 5-6, CLAIM 6-9", text=text, tables=tuple(tables))


def _first_of_each(found: Description) -> list[Fault]:
    """Up to SHOWN faults, a few of every kind before many of one."""
    seen: Counter[str] = Counter()
    ranked = []
    for fault in found.faults:
        ranked.append((seen[fault.what], fault))
        seen[fault.what] += 1
    return [fault for _, fault in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]


def _classes(found: Description) -> Section:
    images, counts = found.images, class_counts(found.images)
    subtypes = sorted({key for count in counts.values() for key in count} - {"images", "patients"})
    rows = tuple((name, c["images"], c["patients"], *(c.get(s, 0) for s in subtypes)) for name, c in counts.items())
    tables = [Table(caption="Classes", header=("class", "images", "patients", *subtypes), rows=rows)]
    for field, said in (
        ("sex", "Sex"),
        ("view", "View"),
        ("scanner", "Scanner"),
        ("site", "Site"),
        ("label_source", "Source of the label"),
    ):
        values = Counter((getattr(image, field) or "not known", image.label) for image in images)
        names = [name for name, _ in Counter(getattr(image, field) or "not known" for image in images).most_common(SHOWN)]
        if len(names) > 1 or (field != "label_source" and names != ["not known"]):
            table = tuple((name, values[name, 0], values[name, 1]) for name in names)
            tables.append(Table(caption=said, header=("", *CLASS_NAMES), rows=table))
    ages = _by_class([image.age_years for image in images], found)
    plot = [_histogram(ages, "age in years", "Age")] if any(len(values) for _, values in ages) else []
    share = sum(image.label for image in images) / max(len(images), 1)
    text = (f"{share:.1%} of the images show pneumonia. {len(patients_in_both(images))} patients have films of both classes.",)
    return Section(title="Classes and patients", answers="TRIPOD+AI 20, CLAIM 33", text=text, tables=tuple(tables), plots=tuple(plot))


def _splits(found: Description) -> Section:
    if not found.splits:
        none = "No split was given (--splits splits.json of a run); training splits by patient."
        return Section(title="Splits", answers="CLAIM 21", text=(none,))
    rows = tuple((name, c["images"], c["pneumonia"], c["patients"]) for name, c in split_counts(found.splits).items())
    text = [f"{len(found.shared_patients)} patients and {len(found.across)} pairs of copies of one film stand in two splits."]
    if found.shared_patients:
        text.append(f"Patients in two splits: {', '.join(found.shared_patients[:SHOWN])}.")
    table = Table(caption="Splits", header=("split", "images", "pneumonia", "patients"), rows=rows)
    return Section(title="Splits", answers="CLAIM 21", text=tuple(text), tables=(table,))


def _control(found: Description) -> Section:
    title, answers = "What the files alone say of the label", "confounding: Zech et al. 2018"
    if found.controls is None:
        return Section(title=title, answers=answers, text=(sentence(None),))
    c = found.controls
    models = tuple((one.family, one.method, str(one.auc)) for one in c.models)
    top = c.single[:15]
    singles = tuple((one.name, one.family, str(one.auc), one.higher_means, one.known) for one in top)
    text = (
        "No picture was looked at here. A figure well above 0.5 is a way to the label that need not pass through the lungs, and that "
        "another hospital's files will not offer.",
        f"Matched by these statistics, a score that reads only the file keeps a ROC-AUC of {c.matched:.2f} (0.50 if matching were "
        "perfect): read the matched figures of a network against that.",
    )
    tables = (
        Table(caption="Models on numbers, five folds by patient (95 % interval)", header=("numbers", "model", "ROC-AUC"), rows=models),
        Table(
            caption="Single numbers, the strongest first, better direction (95 % interval)",
            header=("number", "kind", "ROC-AUC", "higher means", "known of"),
            rows=singles,
            greyed=frozenset(index for index, one in enumerate(top) if one.auc.low <= SUSPICIOUS),
        ),
    )
    rows = [(f"{m.family}, {m.method}", m.auc.value, m.auc.low, m.auc.high) for m in c.models]
    rows += [(one.name, one.auc.value, one.auc.low, one.auc.high) for one in c.single[:10]]
    svg = plots.intervals(rows, x="ROC-AUC", x_range=(0.4, 1.0), vertical=0.5)
    plot = Plot(caption="Dashed: chance.", svg=svg, alt=sentence(c))
    return Section(title=title, answers=answers, text=text, tables=tables, plots=(plot,))


def _files(found: Description) -> Section:
    facts = found.facts
    labels = [fact.image.label for fact in facts]
    counted = {
        "Encoding": [_syntax(fact.encoding) for fact in facts],
        "Stored as": [f"{fact.photometric}, {fact.bits} bit" for fact in facts],
        "Width x height": [f"{fact.width} x {fact.height}" for fact in facts],
        "JPEG quality (estimated)": ["no JPEG" if np.isnan(fact.quality) else f"{fact.quality:.0f}" for fact in facts],
        "EXIF orientation": ["turned (not applied)" if fact.turned else "upright or not stated" for fact in facts],
    }
    rows: list[tuple[object, ...]] = []
    for said, values in counted.items():
        both = Counter(zip(values, labels, strict=True))
        rows += [(said, value, both[value, 0], both[value, 1]) for value, _ in Counter(values).most_common(8)]
        if len(set(values)) > 8:
            rows.append((said, f"{len(set(values)) - 8} more", "", ""))
    table = Table(caption="How the files were made (images)", header=("", "", *CLASS_NAMES), rows=tuple(rows))
    sizes = [_histogram(_numbers("file bytes", found), DRAWN["file bytes"], "File size")]
    if len({(fact.width, fact.height) for fact in facts}) > 1:
        sizes.append(_histogram(_numbers("width / height", found), "width / height of the stored image", "Aspect"))
    return Section(title="Files", answers="CLAIM 9-11", tables=(table,), plots=tuple(sizes))


def _syntax(encoding: str) -> str:
    """The name of a DICOM transfer syntax; JPEG and PNG as they are."""
    known = SYNTAX_BY_UID.get(encoding)
    return f"DICOM, {known.name}" if known else encoding


def _greys(found: Description) -> Section:
    medians = class_medians(found)
    names = [name for name in found.statistics.names if name not in FILE_NAMES]
    rows = tuple((name, *(_range(medians[name][said]) for said in CLASS_NAMES)) for name in names)
    caption = "Of the picture as a network sees it (224 x 224, 0 black to 1 white): median (5th to 95th percentile)"
    table = Table(caption=caption, header=("", *CLASS_NAMES), rows=rows)
    drawn = [_histogram(_numbers(name, found), DRAWN[name], name.capitalize()) for name in ("mean", "log sharpness", "percentile 99")]
    return Section(title="Brightness and sharpness by class", tables=(table,), plots=tuple(drawn))


def _duplicates(found: Description) -> Section:
    exact = sum(pair.exact for pair in found.pairs)
    strangers = sum(pair.one.patient != pair.other.patient for pair in found.pairs)
    text = (
        f"{exact} pairs of identical files and {len(found.pairs) - exact} pairs saved again; {strangers} of them under two patients, "
        f"{sum(pair.contradictory for pair in found.pairs)} with both labels, {len(found.across)} in two splits.",
        f"Saved again: a DCT hash within {MAX_BITS} of 64 bits and a correlation of the 32 x 32 pictures of at least {MIN_CORRELATION}.",
    )
    ranked = sorted(found.pairs, key=lambda pair: (not pair.contradictory, pair.one.patient == pair.other.patient, -pair.correlation))
    rows = []
    for pair in ranked[:SHOWN]:
        told = pair_row(pair, found)
        kind = "identical" if pair.exact else f"correlation {pair.correlation:.3f}"
        labels = "both labels" if pair.contradictory else CLASS_NAMES[pair.one.label]
        patient = "same" if told["same_patient"] else "two"
        rows.append((told["one"], told["other"], kind, labels, patient, *([" / ".join(told["splits"])] if found.splits else [])))
    header = ("one", "other", "how alike", "label", "patient", *(["splits"] if found.splits else []))
    tables = (Table(caption=f"Pairs, the first {len(rows)} of {len(found.pairs)}", header=header, rows=tuple(rows)),) if rows else ()
    return Section(title="Films given twice", text=text, tables=tables)


def _pictures(found: Description, augment: Augment | None) -> tuple[Section, ...]:
    """A row of each class as the network sees it, and the same after augmentation."""
    images = found.images
    chosen = [image for label in (1, 0) for image in _spread([image for image in images if image.label == label])]
    if not chosen:
        return ()
    before = np.stack([read_picture(image, SEEN) for image in chosen])
    captions = [CLASS_NAMES[image.label] for image in chosen]
    sections = [_row("Pictures as a network sees them", "Before augmentation.", before, captions)]
    if augment is not None:
        said = "The same pictures after one draw of the recipe's augmentation. The finding must still be there to see."
        sections.append(_row("The same after augmentation", said, augment(before), captions))
    return tuple(sections)


def _spread(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """EXAMPLES images from all over the list, or all where there are fewer."""
    if len(images) <= EXAMPLES:
        return list(images)
    return [images[round(place)] for place in np.linspace(0, len(images) - 1, EXAMPLES).tolist()]


def _row(title: str, said: str, pictures: Float32, captions: Sequence[str]) -> Section:
    shown = tuple(Thumbnail(caption=caption, png=_png(picture)) for caption, picture in zip(captions, pictures, strict=True))
    return Section(title=title, text=(said,), thumbnails=shown, thumbnails_hold_images=True)


def _png(picture: Float32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(picture.clip(0, 1) * 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _numbers(name: str, found: Description) -> list[tuple[str, NDArray[np.float64]]]:
    return _by_class(found.statistics.only([name]).values[:, 0].tolist(), found)


def _by_class(values: Sequence[float | None], found: Description) -> list[tuple[str, NDArray[np.float64]]]:
    """The values that are known, by class."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    labels = np.array([image.label for image in found.images])
    return [(name, numbers[(labels == label) & np.isfinite(numbers)]) for label, name in enumerate(CLASS_NAMES)]


def _histogram(samples: list[tuple[str, NDArray[np.float64]]], x: str, said: str) -> Plot:
    return Plot(caption=f"{said} by class.", svg=plots.histograms(samples, x=x), alt=f"Histogram: {said} by class")


def _range(triple: tuple[float, float, float]) -> str:
    low, middle, high = triple
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
